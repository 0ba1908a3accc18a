// Python door to the training kernels.
//
// Tensors come as (address, row stride, token stride, is bfloat16) or None, plain buffers as
// addresses (0: absent): the Python side owns every tensor and has checked types and layout.
#include "module.h"

namespace {

slm_array array_of(nb::handle value) {
  slm_array array = {};
  if (value.is_none()) return array;
  const nb::tuple parts = nb::cast<nb::tuple>(value);
  array.data = reinterpret_cast<void*>(nb::cast<uintptr_t>(parts[0]));
  array.row = nb::cast<int64_t>(parts[1]);
  array.step = nb::cast<int64_t>(parts[2]);
  array.half = nb::cast<bool>(parts[3]) ? 1 : 0;
  return array;
}

// Reads the fields of an op out of a dictionary; those not named are absent.
struct Fields {
  nb::dict values;

  bool has(const char* name) const { return values.contains(name); }
  void get(const char* name, int32_t& to) const {
    if (has(name)) to = nb::cast<int32_t>(values[name]);
  }
  void get(const char* name, int64_t& to) const {
    if (has(name)) to = nb::cast<int64_t>(values[name]);
  }
  void get(const char* name, float& to) const {
    if (has(name)) to = nb::cast<float>(values[name]);
  }
  void get(const char* name, slm_array& to) const {
    if (has(name)) to = array_of(values[name]);
  }
  template <class T>
  void get(const char* name, T*& to) const {
    if (has(name)) to = reinterpret_cast<T*>(nb::cast<uintptr_t>(values[name]));
  }
};

#define SLM_FIELD(name) fields.get(#name, op.name)

slm_ssd ssd_of(const Fields& fields) {
  slm_ssd op = {};
  SLM_FIELD(rows), SLM_FIELD(steps), SLM_FIELD(heads), SLM_FIELD(head_dim), SLM_FIELD(state);
  SLM_FIELD(chunk), SLM_FIELD(x), SLM_FIELD(dt), SLM_FIELD(b), SLM_FIELD(c), SLM_FIELD(y);
  SLM_FIELD(rate), SLM_FIELD(h0), SLM_FIELD(h1), SLM_FIELD(states);
  SLM_FIELD(dy), SLM_FIELD(dx), SLM_FIELD(ddt), SLM_FIELD(db), SLM_FIELD(dc);
  SLM_FIELD(dh1), SLM_FIELD(dh0), SLM_FIELD(drate);
  return op;
}

slm_conv conv_of(const Fields& fields) {
  slm_conv op = {};
  SLM_FIELD(rows), SLM_FIELD(steps), SLM_FIELD(channels), SLM_FIELD(taps);
  SLM_FIELD(x), SLM_FIELD(tail), SLM_FIELD(y), SLM_FIELD(weight), SLM_FIELD(bias);
  SLM_FIELD(dy), SLM_FIELD(dx), SLM_FIELD(dtail), SLM_FIELD(dweight), SLM_FIELD(dbias);
  return op;
}

slm_attention attention_of(const Fields& fields) {
  slm_attention op = {};
  SLM_FIELD(rows), SLM_FIELD(steps), SLM_FIELD(heads), SLM_FIELD(groups), SLM_FIELD(head_dim);
  SLM_FIELD(window), SLM_FIELD(refresh), SLM_FIELD(slots), SLM_FIELD(fading), SLM_FIELD(lag);
  SLM_FIELD(chunked_fading), SLM_FIELD(keep_duplicates), SLM_FIELD(rope_theta), SLM_FIELD(blocks);
  SLM_FIELD(q), SLM_FIELD(kv), SLM_FIELD(faded), SLM_FIELD(raw), SLM_FIELD(faded_ring);
  SLM_FIELD(slots_pairs), SLM_FIELD(eps), SLM_FIELD(raw_eps), SLM_FIELD(slot_eps);
  SLM_FIELD(time), SLM_FIELD(slot_time), SLM_FIELD(lengths), SLM_FIELD(out), SLM_FIELD(lse);
  SLM_FIELD(names), SLM_FIELD(kept), SLM_FIELD(new_raw), SLM_FIELD(new_faded_ring);
  SLM_FIELD(new_slots_pairs), SLM_FIELD(new_raw_eps), SLM_FIELD(new_slot_eps);
  SLM_FIELD(new_slot_time), SLM_FIELD(dout), SLM_FIELD(dnew_raw), SLM_FIELD(dnew_faded_ring);
  SLM_FIELD(dnew_slots_pairs), SLM_FIELD(dq), SLM_FIELD(dkv), SLM_FIELD(dfaded), SLM_FIELD(draw);
  SLM_FIELD(dfaded_ring), SLM_FIELD(dslots_pairs);
  return op;
}

slm_delta delta_of(const Fields& fields) {
  slm_delta op = {};
  SLM_FIELD(rows), SLM_FIELD(steps), SLM_FIELD(heads), SLM_FIELD(head_dim), SLM_FIELD(state);
  SLM_FIELD(chunk), SLM_FIELD(q), SLM_FIELD(k), SLM_FIELD(v), SLM_FIELD(log_decay), SLM_FIELD(beta);
  SLM_FIELD(y), SLM_FIELD(s0), SLM_FIELD(s1), SLM_FIELD(states), SLM_FIELD(dy), SLM_FIELD(dq);
  SLM_FIELD(dk), SLM_FIELD(dv), SLM_FIELD(dlog_decay), SLM_FIELD(dbeta), SLM_FIELD(ds1);
  SLM_FIELD(ds0);
  return op;
}

slm_matmul matmul_of(const Fields& fields) {
  slm_matmul op = {};
  SLM_FIELD(m), SLM_FIELD(n), SLM_FIELD(k), SLM_FIELD(a), SLM_FIELD(b), SLM_FIELD(lda);
  SLM_FIELD(ldb), SLM_FIELD(a_turned), SLM_FIELD(b_turned), SLM_FIELD(c), SLM_FIELD(ldc);
  return op;
}

slm_transducer_cells cells_of(const Fields& fields) {
  slm_transducer_cells op = {};
  SLM_FIELD(count), SLM_FIELD(width), SLM_FIELD(outputs), SLM_FIELD(blank), SLM_FIELD(rows);
  SLM_FIELD(columns), SLM_FIELD(labels), SLM_FIELD(acoustic), SLM_FIELD(label), SLM_FIELD(units);
  SLM_FIELD(slope), SLM_FIELD(logits), SLM_FIELD(stay), SLM_FIELD(move), SLM_FIELD(total);
  SLM_FIELD(to_acoustic), SLM_FIELD(to_label);
  return op;
}

slm_transducer transducer_of(const Fields& fields) {
  slm_transducer op = {};
  SLM_FIELD(rows), SLM_FIELD(frames), SLM_FIELD(labels), SLM_FIELD(blank), SLM_FIELD(label);
  SLM_FIELD(frame_lengths), SLM_FIELD(target_lengths), SLM_FIELD(nll), SLM_FIELD(gone);
  SLM_FIELD(said);
  return op;
}

template <class Op>
void bind(nb::module_& module, const char* name, Op (*read)(const Fields&),
          slm_status (*run)(const Op*, int32_t)) {
  module.def(name, [=](nb::dict fields, int threads) {
    const Op op = read(Fields{fields});
    slm_status status;
    {
      nb::gil_scoped_release release;
      status = run(&op, threads);
    }
    check(status);
  });
}

}  // namespace

void bind_train(nb::module_& module) {
  bind(module, "ssd_forward", ssd_of, slm_ssd_forward);
  bind(module, "ssd_backward", ssd_of, slm_ssd_backward);
  module.def("ssd_states", [](nb::dict fields) {
    const slm_ssd op = ssd_of(Fields{fields});
    return slm_ssd_states(&op);
  });
  bind(module, "conv_forward", conv_of, slm_conv_forward);
  bind(module, "conv_backward", conv_of, slm_conv_backward);
  bind(module, "attention_forward", attention_of, slm_attention_forward);
  bind(module, "attention_backward", attention_of, slm_attention_backward);
  bind(module, "delta_forward", delta_of, slm_delta_forward);
  bind(module, "delta_backward", delta_of, slm_delta_backward);
  module.def("delta_states", [](nb::dict fields) {
    const slm_delta op = delta_of(Fields{fields});
    return slm_delta_states(&op);
  });
  bind(module, "matmul", matmul_of, slm_matmul_run);
  bind(module, "transducer_lattice", transducer_of, slm_transducer_lattice);
  bind(module, "transducer_hidden", cells_of, slm_transducer_hidden);
  bind(module, "transducer_spread", cells_of, slm_transducer_spread);
  bind(module, "transducer_scores", cells_of, slm_transducer_scores);
  bind(module, "transducer_slopes", cells_of, slm_transducer_slopes);
}
