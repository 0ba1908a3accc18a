"""Device functions that all Triton kernels share. Importing this imports Triton."""

# Compile-time settings are NamedTuples that Triton unwraps and pyright cannot follow.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false

import triton
import triton.language as tl


@triton.jit
def dot(a, b, C: tl.constexpr):
    """a @ b in float32. C.PREC: precision of float32 products; C.UPCAST: the interpreter has no
    arithmetic in bfloat16, so operands already rounded to it are widened first."""
    if C.UPCAST:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision=C.PREC)


@triton.jit
def narrow(x, kind: tl.constexpr, C: tl.constexpr):
    """x in type `kind`, rounded to the nearest; the interpreter would cut bits off for bfloat16."""
    if C.UPCAST and kind == tl.bfloat16:
        bits = x.to(tl.float32).to(tl.uint32, bitcast=True)
        bits += 0x7FFF + ((bits >> 16) & 1)
        x = (bits & 0xFFFF0000).to(tl.float32, bitcast=True)
    return x.to(kind)
