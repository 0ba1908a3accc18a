// The training kernels of one instruction set, as a table beside the one of reading.
#pragma once

#include "table.h"
#include "train_attention.h"
#include "train_conv.h"
#include "train_delta.h"
#include "train_linear.h"
#include "train_ssd.h"
#include "train_transducer.h"

namespace slm {
namespace SLM_ISA {

static const TrainKernels train_kernels = {
    ssd_forward,
    ssd_backward,
    ssd_scratch,
    conv_forward,
    conv_backward,
    attention_forward,
    attention_backward,
    attention_scratch,
    delta_forward,
    delta_backward,
    delta_scratch,
    hidden_row,
    spread_row,
    log_sum,
    softmax_slope,
    pack_panels,
    transpose,
    sum_rows,
    round_rows,
};

}  // namespace SLM_ISA
}  // namespace slm
