// The training ops through the C interface: odd sizes, slopes against differences, threads, refusals.
//
// What they compute is compared with the definitions from Python (tests/kernels/native); here they
// run under the sanitizers, on buffers of exactly the size they may touch.
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "solomonic.h"

namespace {

using Floats = std::vector<float>;

Floats random_floats(size_t count, uint32_t seed, float scale = 1.0f) {
  Floats out(count);
  for (float& x : out) {
    seed = seed * 1664525u + 1013904223u;
    x = scale * (float(seed >> 8) / float(1 << 23) - 1.0f);
  }
  return out;
}
Floats poisoned(size_t count) { return Floats(count, std::numeric_limits<float>::quiet_NaN()); }

slm_array array(Floats& values, int64_t steps, int64_t each) {
  return {values.data(), steps * each, each, 0};
}

double dot(const Floats& a, const Floats& b) {
  double total = 0;
  for (size_t i = 0; i < a.size(); i++) total += double(a[i]) * b[i];
  return total;
}

// The slope of `value` along `way` at `x` against what the backward pass says.
void check_slope(const std::string& name, Floats& x, const Floats& gradient,
                 const std::function<double()>& value) {
  NOTE(name);
  const Floats start = x, way = random_floats(x.size(), 99);
  const float step = 1e-2f;
  for (size_t i = 0; i < x.size(); i++) x[i] = start[i] + step * way[i];
  const double above = value();
  for (size_t i = 0; i < x.size(); i++) x[i] = start[i] - step * way[i];
  const double below = value();
  x = start;
  const double claimed = dot(gradient, way), seen = (above - below) / (2 * step);
  CHECK(std::fabs(claimed - seen) <= 2e-2 * std::max(1.0, std::fabs(seen)));
}

struct Scan {
  static constexpr int B = 2, T = 37, H = 3, P = 5, N = 7;
  Floats x = random_floats(B * T * H * P, 1), dt = random_floats(B * T * H, 2, 0.2f);
  Floats b = random_floats(B * T * N, 3), c = random_floats(B * T * N, 4);
  Floats rate = random_floats(H, 5), h = random_floats(B * H * P * N, 6);
  Floats y = poisoned(x.size()), last = poisoned(h.size()), states;
  Floats dy = random_floats(x.size(), 7), dlast = random_floats(h.size(), 8);
  Floats dx = poisoned(x.size()), ddt = poisoned(dt.size()), db = poisoned(b.size());
  Floats dc = poisoned(c.size()), drate = poisoned(H), dh = poisoned(h.size());
  slm_ssd op = {};

  Scan() {
    for (float& v : dt) v = v < 0 ? -v : v;
    for (float& v : rate) v = -1 - v * v;
    op.rows = B, op.steps = T, op.heads = H, op.head_dim = P, op.state = N, op.chunk = 16;
    op.x = array(x, T, H * P), op.dt = array(dt, T, H), op.b = array(b, T, N);
    op.c = array(c, T, N), op.y = array(y, T, H * P), op.dy = array(dy, T, H * P);
    op.dx = array(dx, T, H * P), op.ddt = array(ddt, T, H);
    op.db = array(db, T, N), op.dc = array(dc, T, N);
    op.rate = rate.data(), op.h0 = h.data(), op.h1 = last.data();
    op.dh1 = dlast.data(), op.dh0 = dh.data(), op.drate = drate.data();
    states = poisoned(size_t(slm_ssd_states(&op)));
    op.states = states.data();
  }
  double value() {
    CHECK_EQUAL(slm_ssd_forward(&op, 1), SLM_OK);
    return dot(y, dy) + dot(last, dlast);
  }
};

struct Mixer {
  static constexpr int B = 2, T = 19, H = 4, G = 2, D = 6, W = 5, R = 3, M = 4, F = 2, L = 3;
  static constexpr int ring = W - 1, passed = F + L - 1, blocks = (R - 1 + T + R - 1) / R;
  static constexpr int pair = 2 * G * D;
  Floats q = random_floats(B * T * H * D, 1), kv = random_floats(B * T * pair, 2);
  Floats faded = random_floats(B * T * pair, 3), raw = random_floats(B * ring * pair, 4);
  Floats old = random_floats(B * passed * pair, 5), slots = random_floats(B * M * pair, 6);
  Floats eps = random_floats(B * T, 7), raw_eps = random_floats(B * ring, 8);
  Floats slot_eps = random_floats(B * M, 9);
  std::vector<int64_t> time{20, 31}, slot_time{3, 1, 7, -1, 2, 4, 8, 11}, lengths{T, 7};
  Floats out = poisoned(q.size()), lse = poisoned(B * T * H), dout = random_floats(q.size(), 10);
  Floats new_raw = poisoned(raw.size()), new_old = poisoned(old.size());
  Floats new_slots = poisoned(slots.size()), new_raw_eps = poisoned(raw_eps.size());
  Floats new_slot_eps = poisoned(slot_eps.size());
  Floats dnew = random_floats(slots.size(), 11);
  Floats dq = poisoned(q.size()), dkv = poisoned(kv.size()), dfaded = poisoned(faded.size());
  Floats draw = poisoned(raw.size()), dold = poisoned(old.size()), dslots = poisoned(slots.size());
  std::vector<int64_t> names = std::vector<int64_t>(B * (blocks + 1) * M), kept = names;
  std::vector<int64_t> new_time = slot_time;
  slm_attention op = {};

  Mixer() {
    for (int row = 0; row < B; row++)  // best first, the last slot of the first row empty
      for (int i = 0; i < M; i++) slot_eps[row * M + i] = 0.9f - 0.1f * float(i);
    slot_eps[3] = -std::numeric_limits<float>::infinity();
    op.rows = B, op.steps = T, op.heads = H, op.groups = G, op.head_dim = D;
    op.window = W, op.refresh = R, op.slots = M, op.fading = F, op.lag = L;
    op.rope_theta = 100, op.blocks = blocks;
    op.q = array(q, T, H * D), op.kv = array(kv, T, pair), op.faded = array(faded, T, pair);
    op.raw = array(raw, ring, pair), op.faded_ring = array(old, passed, pair);
    op.slots_pairs = array(slots, M, pair);
    op.eps = eps.data(), op.raw_eps = raw_eps.data(), op.slot_eps = slot_eps.data();
    op.time = time.data(), op.slot_time = slot_time.data(), op.lengths = lengths.data();
    op.out = array(out, T, H * D), op.lse = lse.data();
    op.names = names.data(), op.kept = kept.data();
    op.new_raw = array(new_raw, ring, pair), op.new_faded_ring = array(new_old, passed, pair);
    op.new_slots_pairs = array(new_slots, M, pair);
    op.new_raw_eps = new_raw_eps.data(), op.new_slot_eps = new_slot_eps.data();
    op.new_slot_time = new_time.data();
    op.dout = array(dout, T, H * D), op.dnew_slots_pairs = array(dnew, M, pair);
    op.dq = array(dq, T, H * D), op.dkv = array(dkv, T, pair);
    op.dfaded = array(dfaded, T, pair), op.draw = array(draw, ring, pair);
    op.dfaded_ring = array(dold, passed, pair), op.dslots_pairs = array(dslots, M, pair);
  }
  double value() {
    CHECK_EQUAL(slm_attention_forward(&op, 1), SLM_OK);
    return dot(out, dout) + dot(new_slots, dnew);
  }
};

struct Rule {
  static constexpr int B = 1, T = 35, H = 2, P = 5, N = 9;
  Floats q = random_floats(B * T * H * N, 1), k = random_floats(B * T * H * N, 2, 0.3f);
  Floats v = random_floats(B * T * H * P, 3), decay = random_floats(B * T * H, 4, 0.5f);
  Floats beta = random_floats(B * T * H, 5), s = random_floats(B * H * N * P, 6);
  Floats y = poisoned(v.size()), last = poisoned(s.size()), states;
  Floats dy = random_floats(v.size(), 7), dlast = random_floats(s.size(), 8);
  Floats dq = poisoned(q.size()), dk = poisoned(k.size()), dv = poisoned(v.size());
  Floats ddecay = poisoned(decay.size()), dbeta = poisoned(beta.size()), ds = poisoned(s.size());
  slm_delta op = {};

  Rule() {
    for (float& x : decay) x = -x * x;
    for (float& x : beta) x = x * x;
    op.rows = B, op.steps = T, op.heads = H, op.head_dim = P, op.state = N, op.chunk = 16;
    op.q = array(q, T, H * N), op.k = array(k, T, H * N), op.v = array(v, T, H * P);
    op.log_decay = array(decay, T, H), op.beta = array(beta, T, H), op.y = array(y, T, H * P);
    op.dy = array(dy, T, H * P), op.dq = array(dq, T, H * N), op.dk = array(dk, T, H * N);
    op.dv = array(dv, T, H * P), op.dlog_decay = array(ddecay, T, H);
    op.dbeta = array(dbeta, T, H);
    op.s0 = s.data(), op.s1 = last.data(), op.ds1 = dlast.data(), op.ds0 = ds.data();
    states = poisoned(size_t(slm_delta_states(&op)));
    op.states = states.data();
  }
  double value() {
    CHECK_EQUAL(slm_delta_forward(&op, 1), SLM_OK);
    return dot(y, dy) + dot(last, dlast);
  }
};

}  // namespace

TEST(train_ssd) {
  Scan scan;
  const auto value = [&] { return scan.value(); };
  value();
  CHECK_EQUAL(slm_ssd_backward(&scan.op, 1), SLM_OK);
  Scan two;
  CHECK_EQUAL(slm_ssd_forward(&two.op, 2), SLM_OK);
  CHECK_EQUAL(slm_ssd_backward(&two.op, 2), SLM_OK);
  CHECK_SAME(scan.y, two.y), CHECK_SAME(scan.dx, two.dx), CHECK_SAME(scan.db, two.db);
  CHECK_SAME(scan.drate, two.drate), CHECK_SAME(scan.dh, two.dh);
  const Floats dx = scan.dx, ddt = scan.ddt, db = scan.db, dc = scan.dc, dh = scan.dh;
  const Floats drate = scan.drate;
  check_slope("x", scan.x, dx, value), check_slope("b", scan.b, db, value);
  check_slope("c", scan.c, dc, value), check_slope("h", scan.h, dh, value);
  check_slope("dt", scan.dt, ddt, value), check_slope("rate", scan.rate, drate, value);
}

TEST(train_delta) {
  Rule rule;
  const auto value = [&] { return rule.value(); };
  value();
  CHECK_EQUAL(slm_delta_backward(&rule.op, 2), SLM_OK);
  const Floats dq = rule.dq, dk = rule.dk, dv = rule.dv, dbeta = rule.dbeta, ds = rule.ds;
  const Floats ddecay = rule.ddecay;
  check_slope("q", rule.q, dq, value), check_slope("k", rule.k, dk, value);
  check_slope("v", rule.v, dv, value), check_slope("beta", rule.beta, dbeta, value);
  check_slope("s", rule.s, ds, value), check_slope("decay", rule.decay, ddecay, value);
}

TEST(train_attention) {
  Mixer mixer;
  const auto value = [&] { return mixer.value(); };
  value();
  CHECK_EQUAL(slm_attention_backward(&mixer.op, 1), SLM_OK);
  Mixer two;
  CHECK_EQUAL(slm_attention_forward(&two.op, 2), SLM_OK);
  CHECK_EQUAL(slm_attention_backward(&two.op, 2), SLM_OK);
  CHECK_SAME(mixer.out, two.out), CHECK_SAME(mixer.dkv, two.dkv);
  CHECK_SAME(mixer.dslots, two.dslots);
  const Floats dq = mixer.dq, dkv = mixer.dkv, dfaded = mixer.dfaded, draw = mixer.draw;
  const Floats dold = mixer.dold, dslots = mixer.dslots;
  check_slope("q", mixer.q, dq, value), check_slope("kv", mixer.kv, dkv, value);
  check_slope("faded", mixer.faded, dfaded, value), check_slope("raw", mixer.raw, draw, value);
  check_slope("ring", mixer.old, dold, value), check_slope("slots", mixer.slots, dslots, value);
}

TEST(train_conv) {
  constexpr int B = 2, T = 21, C = 37;
  for (int taps : {1, 4, 5}) {
    NOTE("taps " + std::to_string(taps));
    Floats x = random_floats(B * T * C, 1), tail = random_floats(B * (taps - 1) * C, 2);
    Floats weight = random_floats(C * taps, 3), bias = random_floats(C, 4), y = poisoned(x.size());
    Floats dy = random_floats(x.size(), 5), dx = poisoned(x.size()), dtail = poisoned(tail.size());
    Floats dweight = poisoned(weight.size()), dbias = poisoned(C);
    slm_conv op = {};
    op.rows = B, op.steps = T, op.channels = C, op.taps = taps;
    op.x = array(x, T, C), op.y = array(y, T, C), op.dy = array(dy, T, C), op.dx = array(dx, T, C);
    if (taps > 1) op.tail = array(tail, taps - 1, C), op.dtail = array(dtail, taps - 1, C);
    op.weight = weight.data(), op.bias = bias.data();
    op.dweight = dweight.data(), op.dbias = dbias.data();
    const auto value = [&] {
      CHECK_EQUAL(slm_conv_forward(&op, 2), SLM_OK);
      return dot(y, dy);
    };
    value();
    CHECK_EQUAL(slm_conv_backward(&op, 2), SLM_OK);
    check_slope("x", x, dx, value), check_slope("tail", tail, dtail, value);
    check_slope("weight", weight, dweight, value), check_slope("bias", bias, dbias, value);
  }
}

TEST(train_matmul) {
  constexpr int M = 197, N = 70, K = 33;
  const Floats a = random_floats(M * K, 1), b = random_floats(K * N, 2);
  Floats wanted(M * N), turned_a(M * K), turned_b(K * N);
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++)
      for (int k = 0; k < K; k++) {
        wanted[i * N + j] += a[i * K + k] * b[k * N + j];
        turned_a[k * M + i] = a[i * K + k], turned_b[j * K + k] = b[k * N + j];
      }
  for (int way = 0; way < 4; way++) {
    Floats c = poisoned(M * N);
    slm_matmul op = {};
    op.m = M, op.n = N, op.k = K, op.a_turned = way & 1, op.b_turned = way >> 1;
    op.a = op.a_turned ? turned_a.data() : a.data(), op.lda = op.a_turned ? M : K;
    op.b = op.b_turned ? turned_b.data() : b.data(), op.ldb = op.b_turned ? K : N;
    op.c = c.data(), op.ldc = N;
    CHECK_EQUAL(slm_matmul_run(&op, 2), SLM_OK);
    CHECK_NEAR(wanted, c, 1e-5);
  }
}

TEST(train_refuses) {
  Scan scan;
  scan.op.x.data = nullptr;
  CHECK_EQUAL(slm_ssd_forward(&scan.op, 1), SLM_BAD_ARGUMENT);
  CHECK_EQUAL(std::string(slm_error()), "ssd: the array 'x' is missing.");
  Mixer mixer;
  mixer.op.refresh = Mixer::W + 1;
  CHECK_EQUAL(slm_attention_forward(&mixer.op, 1), SLM_BAD_ARGUMENT);
  mixer.op.refresh = Mixer::R, mixer.op.blocks = 2;
  CHECK_EQUAL(slm_attention_forward(&mixer.op, 1), SLM_BAD_ARGUMENT);
}
