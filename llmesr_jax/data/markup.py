"""Plain text from the HTML that shops leave in titles, categories and descriptions.

    plain("<b>Rose</b> &amp;amp; thorn<br>&lt;i&gt;balm&lt;/i&gt; <span class=")  ->  "Rose & thorn balm"

Only names of HTML elements count as tags, so "I <3 you", "a < b > c" and "<Blue>" stay as they are.
"""

from __future__ import annotations

import html
import re

# Elements within a line: "H<sub>2</sub>O" is one word. Each other element separates words.
_INLINE = (
    "a abbr acronym b bdi bdo big blink cite code data del dfn em font i ins kbd label mark nobr q rp rt ruby s samp "
    "small span strike strong sub sup time tt u var wbr"
).split()
_OTHER = (
    "address applet area article aside audio base basefont blockquote body br button canvas caption center col "
    "colgroup datalist dd details dialog dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 "
    "h2 h3 h4 h5 h6 head header hgroup hr html iframe img input isindex legend li link main map marquee menu menuitem "
    "meta meter nav noframes noscript object ol optgroup option output p param picture pre progress script section "
    "select slot source style summary svg table tbody td template textarea tfoot th thead title tr track ul video"
).split()
# Elements whose names are not words, so they count as tags whatever follows within "<" and ">".
_NO_WORDS = frozenset(
    "br dd div dl dt em fieldset font h1 h2 h3 h4 h5 h6 hr html iframe img li ol pre span strong sup tbody td tfoot th "
    "thead tr tt ul".split()
)
_PASSES = 8  # of removing tags and resolving entities, which may be escaped more than once

_NAME = rf"(?:{'|'.join(sorted(_INLINE + _OTHER, key=len, reverse=True))}|(?:o|v|w|m|st1|fb):\w+)"
# A quoted value may hold ">", but no "<": where a quote is missing, no text after the tag is lost.
_INSIDE = r"""(?>=\s*"[^"<]*"|=\s*'[^'<]*'|[^<>])*+"""
_TAG = re.compile(rf"<(/?)({_NAME})(?=[\s/>]|\Z)({_INSIDE})(>|\Z)", re.IGNORECASE)
_UNENDED = re.compile(
    rf"""<{_NAME}(?:\s+[\w:.-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s<>"']+))++|</{_NAME}(?![\w:-])|</[a-z]*\Z""",
    re.IGNORECASE,
)
# What must follow an element's name that is also a word or a letter, so that "<b" in a formula is not a tag.
_ATTRIBUTES = re.compile(
    r"[\s/]*(?:(?:allowfullscreen|async|autofocus|autoplay|border|checked|compact|controls|default|defer|disabled|"
    r"hidden|itemscope|loop|multiple|muted|noshade|nowrap|open|readonly|required|reversed|selected)\b\s*)*"
    r"(?:/?\s*\Z|[\w:@.-]+\s*=)",
    re.IGNORECASE,
)
_WITH_BLANKS = re.compile(rf"<\s*/?\s*(?:{'|'.join(sorted(_NO_WORDS))})\s*/?\s*>", re.IGNORECASE)
_CUT_OFF = re.compile(rf"<(?:[/!]?[a-z]{{0,10}}|!-|{_NAME}\s[^<>]*)\Z", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|<!\[(?:if|endif)[^<>]*>|<!doctype[^<>]*>|<\?[a-z][^<>]*>", re.I | re.DOTALL)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.DOTALL)
_CODE = re.compile(
    rf"<(script|style|svg)(?=[\s/>]){_INSIDE}>(.*?)(</\1(?![\w:-])[^<>]*(?:>|\Z)|\Z)", re.IGNORECASE | re.DOTALL
)
# A rule of a style sheet that lost its element: ".a p, #b {color: red; margin: 0}".
_SIMPLE = rf"(?:\b{_NAME})?[.#][A-Za-z_][\w-]*+(?:[.#:][\w-]+)*+"
_DECLARATIONS = r"\s*(?:[\w-]+\s*:[^{};<>]*(?:;\s*(?:[\w-]+\s*:[^{};<>]*)?)*+)?"
_STYLE_RULE = re.compile(
    rf"{_SIMPLE}(?:[\s,>+~]+(?:{_SIMPLE}|{_NAME}\b(?::[\w-]+)*+)){{0,30}}+\s*\{{{_DECLARATIONS}\}}"
)


def plain(text: str) -> str:
    """The text without tags, comments, scripts and style sheets, with entities resolved and single blanks; maybe ""."""
    if "<" in text or "&" in text:
        for _ in range(_PASSES):
            before = text
            text = html.unescape(_without_tags(text.strip()))
            if text == before:
                break
    if "{" in text:
        text = _STYLE_RULE.sub(" ", text)
    return " ".join(text.split())


def _without_tags(text: str) -> str:
    if "<" not in text:
        return text
    found = _CDATA.sub(r" \1 ", _CODE.sub(_of_code, _COMMENT.sub("", text)))
    found = _UNENDED.sub(" ", _WITH_BLANKS.sub(" ", _TAG.sub(_of_tag, found)))
    # A "<" at the end of a text with tags is a tag that was cut off; without tags it may be a sign.
    return _CUT_OFF.sub("", found) if found != text else found


def _of_code(match: re.Match) -> str:
    # Without its end tag and without code, it may be a word: "Dress, <Style> A".
    return " " if match[3] or any(sign in match[2] for sign in "{;(=") else match[0]


def _of_tag(match: re.Match) -> str:
    end, name, inside, closed = match[1], match[2].lower(), match[3], match[4]
    formula = len(name) == 1 and not closed and not inside  # "a <b"
    if not end and name not in _NO_WORDS and (formula or not _ATTRIBUTES.match(inside)):
        return match[0]
    return "" if name in _INLINE else " "
