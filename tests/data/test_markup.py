"""Texts out of HTML."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.data.markup import plain


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('<span id="productTitle" class="a-size-large">Soap 1</span>', "Soap 1"),
        ("Lamp &amp;quot;Best&amp;quot; &lt;b&gt;new&lt;/b&gt;", 'Lamp "Best" new'),
        ("</span></span></span>", ""),
        ("</i> Item #", "Item #"),
        ("<a href='x'>Click</a> fine", "Click fine"),
        ('<div class="aplus">Good <br> toy</div> .a{color:red}', "Good toy"),
        ("one<br>two<BR/>three&lt;br /&gt;four< br >five", "one two three four five"),
        ("&amp;amp;lt;br&amp;amp;gt;x", "x"),
        ("H<sub>2</sub>O, <b>b</b>old", "H2O, bold"),
        ("<ul><li>a</li><li>b</li></ul>", "a b"),
        ("x<!-- a > b --> y <!-- cut", "x y"),
        ("<!DOCTYPE html><?xml version='1.0'?>a<!--[if IE]><b><![endif]-->", "a"),
        ("a<script type='x'>if (a<b) { c() }</script>b", "a b"),
        ("a<svg width=5><path d='M0'/></svg> b", "a b"),
        ("<STYLE>p { margin: 0 }</STYLE>b<style>.a {", "b"),
        (".a, .b p:hover > #c { color: red; margin: 0; } text", "text"),
        ("good <span class=", "good"),
        ("good <a href='http://a/b", "good"),
        ("<b>good</b> toy <spa", "good toy"),
        ("<b>good</b> toy </", "good toy"),
        ('<span class="x" good <br>toy', "good toy"),
        ('<img alt="5" TV" src=x> TV', "TV"),
        ('<a title="a > b">T</a>', "T"),
        ('<a href="x>text</a> <a href="y">more</a>', "text more"),
        ("<td nowrap>x</td><o:p></o:p>", "x"),
        ("<![CDATA[mug]]>", "mug"),
        (" two\n  lines&nbsp;\u3000end ", "two lines end"),
    ],
)
def test_markup_is_removed(text, wanted):
    assert plain(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "I <3 you", "a < b > c", "<Blue>", "if x<y then y>x", "a <b and c> d", "weight <b", "<Time Out> 5", "<-- left",
        "list<T> of <bob@example.com>", "2 < 3 && 4 > 1", "AT&T", "{color: x}", "Dress <Blue", "a <", "",
    ],
)  # fmt: skip
def test_what_only_looks_like_markup_stays(text):
    assert plain(text) == text
    assert plain(text.replace("<", "&lt;").replace(">", "&gt;")) == text


@given(st.text(st.sampled_from("<>/!-\"'=&;ab brli{}:.#"), max_size=40))
def test_what_is_plain_stays_as_it_is(text):
    once = plain(text)
    assert plain(once) == once and "  " not in once and "<br>" not in once and "</b" not in once


@pytest.mark.parametrize("part", ["<", "<b ", '<a x="', "&amp;", ".a ", "<a x = ", "<script>", "<!--", "a:b;", ".a{"])
def test_long_texts_take_no_time_to_speak_of(part):
    started = time.process_time()
    plain(part * (30_000 // len(part)))
    assert time.process_time() - started < 2
