// All kernels for one instruction set; compiled once for each, with its flags and SLM_ISA.
#include "matmul.h"
#include "packed.h"
#include "rows.h"
#include "small.h"
#include "steps.h"
#include "table.h"
#include "train.h"

#define SLM_TEXT2(x) #x
#define SLM_TEXT(x) SLM_TEXT2(x)

namespace slm {
namespace SLM_ISA {

extern const Kernels table;
const Kernels table = {
    SLM_TEXT(SLM_ISA),
    {product<F32>, product<S8>, product_u4, product<R4>, product_s24<3>, product_s24<5>,
     product_v16<8>, product_v16<4>, product<Bf16>},
    product_small,
    round_bf16,
    quantise_s8,
    quantise_u4,
    rms_norm,
    silu_product,
    convolve,
    exp_n,
    softmax,
    ssd_step,
    delta_step,
    scores,
    mix,
    squared_distance,
    squared_norm,
    axpy,
    scale_copy,
    decay_row,
    multiply,
    softmax_at,
    maximum_of,
    &train_kernels,
};

}  // namespace SLM_ISA
}  // namespace slm
