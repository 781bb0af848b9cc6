"""Counts of a compiled step, by hand."""

from llmesr_jax.experiments import gpu_program

TEXT = """HloModule jit_run_window
%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %add.1 = f32[4]{0} add(%p, %p)
}
%inner (t: (s32[], f32[4])) -> (s32[], f32[4]) {
  %t = (s32[], /*index=1*/f32[4]{0}) parameter(0)
  %x = f32[4]{0} get-tuple-element(%t), index=1
  %loop_fusion = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused
  ROOT %r = (s32[], f32[4]{0}) tuple(%x, %loop_fusion)
}
%step (s: (s32[], f32[4])) -> (s32[], f32[4]) {
  %s = (s32[], f32[4]{0}) parameter(0)
  %y = f32[4]{0} get-tuple-element(%s), index=1
  %gemm_fusion_dot.1 = bf16[2,4]{1,0} fusion(%y), kind=kCustom, calls=%fused
  %custom = (f32[2,2]{1,0}, s8[16]{0}) custom-call(%y), custom_call_target="__cublas$gemm"
  %sort.2 = s32[8]{0} sort(%y), dimensions={0}
  %while.1 = (s32[], f32[4]{0}) while(%s), condition=%c, body=%inner, backend_config={"known_trip_count":{"n":"10"}}
  ROOT %while.2 = (s32[], f32[4]{0}) while(%while.1), condition=%c, body=%inner
}
ENTRY %main (a: (s32[], f32[4])) -> (s32[], f32[4]) {
  %a = (s32[], f32[4]{0}) parameter(0)
  ROOT %while.3 = (s32[], f32[4]{0}) while(%a), condition=%c, body=%step
}
"""


def test_a_step_is_the_outermost_loops_body():
    found = gpu_program.step_of(TEXT)
    assert (found.kernels, found.products) == (3, 2)
    assert found.written == 2 * 8 + (16 + 16) + 32
    assert [turns for turns, _ in found.loops] == [10, None]
    assert [inner.kernels for _, inner in found.loops] == [1, 1]
    assert found.known() == 3 + 10 * 1 + 1 and found.waits() == 1


def test_the_table_says_that_nothing_was_timed():
    step = gpu_program.step_of(TEXT)
    found = {"method": "none", "device": "h100", "lanes": 3, "operations": 9, "stablehlo_products": 2, "flops": None}
    found |= {"kernels": step.kernels, "products": step.products, "loops": 2, "launches": 14, "waits": 1, "trace": 1.0}
    found |= {"compile": 2.0, "temporary_bytes": 2**20, "argument_bytes": 2**21, "written_bytes": 80}
    lines = gpu_program.table(found).splitlines()
    assert lines[0] == "none, 3 seeds, compiled for h100; nothing ran there, so nothing was timed"
    assert "14: 3 kernels, 2 of them products, and 2 loops" in lines[2] and not any("TF32" in line for line in lines)
