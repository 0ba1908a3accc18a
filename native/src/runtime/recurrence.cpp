// The fading memories: Mamba-2 (SSD) and the gated delta rule, one token or many.
//
// Sources: Dao and Gu, arXiv 2405.21060, listing 1; Yang et al., arXiv 2412.06464, section 3.3.
// Many tokens go in chunks: products within a chunk, the recurrence between chunks.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "context.h"

namespace slm {

namespace {

constexpr int kChunk = 64;

float softplus(float x) { return x > 20 ? x : std::log1p(std::exp(x)); }
float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

// The lower triangle of a (n, n) matrix times x (n, width), in bands that skip most of the zeros.
void triangle_product(int n, int width, const float* a, int64_t lda, const float* x, int64_t ldx,
                      float* y, int64_t ldy, bool add) {
  constexpr int band = 12;
  for (int from = 0; from < n; from += band) {
    const int rows = std::min(band, n - from);
    product(rows, width, from + rows, a + from * lda, lda, 1, x, ldx, y + from * ldy, ldy, add);
  }
}

struct Scan {
  Workspace& scratch;
  const Config& config;
  const Recurrence& r;
  int index;

  float* z(int row) const { return scratch.projected.row(row); }
  float* gates(int row) const { return z(row) + config.inner + r.mixed; }
  float* mixed(int row) const { return scratch.convolved.row(row); }
  float* y(int row, int head) const {
    return scratch.inner.row(row) + head * config.state_head;
  }
  float* state(const Segment& segment, int head) const {
    return segment.stream->layers[index].h.data() +
           int64_t(head) * config.state * config.state_head;
  }
};

void ssd_token(const Scan& scan, const Segment& segment, int row, int head) {
  const Config& c = scan.config;
  const float* mixed = scan.mixed(row);
  const float dt = softplus(scan.gates(row)[head] + scan.r.dt_bias[head]);
  kernels().ssd_step(scan.state(segment, head), mixed + head * c.state_head, mixed + c.inner,
                     mixed + c.inner + c.state, std::exp(dt * scan.r.rate[head]), dt,
                     scan.r.skip[head], c.state, c.state_head, scan.y(row, head));
}

// C B^T of one chunk, shared by the heads: rows of `scratch.scores`.
void ssd_overlap(const Scan& scan, int row, int count, Local& local) {
  const Config& c = scan.config;
  float* turned = local.a.shape(c.state, kChunk);
  const float* b = scan.mixed(row) + c.inner;
  transpose(b, scan.r.mixed, count, c.state, turned, kChunk);
  product(count, count, c.state, b + c.state, scan.r.mixed, 1, turned, kChunk,
          scan.scratch.scores.row(row), kChunk, false);
}

// One head over a segment, chunk by chunk.
void ssd_chunks(const Scan& scan, const Segment& segment, int head, Local& local) {
  const Config& c = scan.config;
  const Kernels& k = kernels();
  const int P = c.state_head, N = c.state;
  const int64_t ld = scan.r.mixed;
  float* state = scan.state(segment, head);
  float* weights = local.a.shape(kChunk, kChunk);
  float* reads = local.b.shape(kChunk, N);
  float* writes = local.c.shape(kChunk, P);
  float dt[kChunk], total[kChunk], grown[kChunk];
  for (int done = 0; done < segment.count; done += kChunk) {
    const int row = segment.row + done, count = std::min(kChunk, segment.count - done);
    float sum = 0;
    for (int i = 0; i < count; i++) {
      dt[i] = softplus(scan.gates(row + i)[head] + scan.r.dt_bias[head]);
      total[i] = sum += dt[i] * scan.r.rate[head];
    }
    k.exp_n(total, count, grown);
    const float* x = scan.mixed(row) + head * P;
    const float* b = scan.mixed(row) + c.inner;
    std::memset(weights, 0, sizeof(float) * kChunk * kChunk);
    for (int i = 0; i < count; i++) {
      k.decay_row(scan.scratch.scores.row(row + i), total, dt, total[i], i + 1,
                  weights + i * kChunk);
      k.scale_copy(grown[i], b + N + i * ld, N, reads + i * N);
    }
    float* y = scan.y(row, head);
    product(count, P, N, reads, N, 1, state, P, y, c.inner, false);
    triangle_product(count, P, weights, kChunk, x, ld, y, c.inner, true);
    const float last = total[count - 1];
    for (int i = 0; i < count; i++) {
      k.axpy(scan.r.skip[head], x + i * ld, P, y + i * c.inner);
      k.scale_copy(dt[i] * std::exp(last - total[i]), x + i * ld, P, writes + i * P);
    }
    k.scale_copy(grown[count - 1], state, N * P, state);
    product(N, P, count, b, 1, ld, writes, P, state, P, true);
  }
}

// Queries and keys of one head to length one, queries divided by sqrt(N) besides.
void unit_pair(const Config& c, float* mixed, int head) {
  const Kernels& k = kernels();
  float* q = mixed + head * c.state;
  float* key = q + c.state_heads() * c.state;
  const float q_scale = 1 / std::sqrt(k.squared_norm(q, c.state) + 1e-6f);
  const float k_scale = 1 / std::sqrt(k.squared_norm(key, c.state) + 1e-6f);
  k.scale_copy(q_scale / std::sqrt(float(c.state)), q, c.state, q);
  k.scale_copy(k_scale, key, c.state, key);
}

struct Gates {
  float beta, log_decay;
};
Gates delta_gates(const Scan& scan, int row, int head) {
  const float* gates = scan.gates(row);
  const int heads = scan.config.state_heads();
  return {sigmoid(gates[head]),
          scan.r.rate[head] * softplus(gates[heads + head] + scan.r.dt_bias[head])};
}

void delta_token(const Scan& scan, const Segment& segment, int row, int head, Local& local) {
  const Config& c = scan.config;
  float* mixed = scan.mixed(row);
  unit_pair(c, mixed, head);
  const float* q = mixed + head * c.state;
  const float* key = q + c.state_heads() * c.state;
  const float* v = mixed + 2 * c.state_heads() * c.state + head * c.state_head;
  const Gates gates = delta_gates(scan, row, head);
  kernels().delta_step(scan.state(segment, head), q, key, v, std::exp(gates.log_decay), gates.beta,
                       c.state, c.state_head, scan.y(row, head),
                       local.a.shape(1, c.state_head));
}

// One head over a segment: within a chunk the erasures form a unit lower-triangular system whose
// solution is what each token really writes (the UT transform).
void delta_chunks(const Scan& scan, const Segment& segment, int head, Local& local) {
  const Config& c = scan.config;
  const Kernels& k = kernels();
  const int P = c.state_head, N = c.state;
  const int64_t ld = scan.r.mixed;
  float* state = scan.state(segment, head);
  float* overlap = local.a.shape(kChunk, kChunk);
  float* turned = local.b.shape(N, kChunk);
  float* solved = local.c.shape(kChunk, P + N);
  float* queries = local.d.shape(kChunk, N);
  float* row_of = local.e.shape(1, kChunk);
  float* weights = local.f.shape(kChunk, kChunk);
  float beta[kChunk], total[kChunk], grown[kChunk];
  for (int done = 0; done < segment.count; done += kChunk) {
    const int row = segment.row + done, count = std::min(kChunk, segment.count - done);
    float sum = 0;
    for (int i = 0; i < count; i++) {
      unit_pair(c, scan.mixed(row + i), head);
      const Gates gates = delta_gates(scan, row + i, head);
      beta[i] = gates.beta;
      total[i] = sum += gates.log_decay;
    }
    k.exp_n(total, count, grown);
    const float* q = scan.mixed(row) + head * N;
    const float* key = q + c.state_heads() * N;
    const float* v = scan.mixed(row) + 2 * c.state_heads() * N + head * P;
    transpose(key, ld, count, N, turned, kChunk);
    product(count, count, N, key, ld, 1, turned, kChunk, overlap, kChunk, false);
    for (int i = 0; i < count; i++) {
      float* mine = solved + i * (P + N);
      k.scale_copy(beta[i], v + i * ld, P, mine);
      k.scale_copy(beta[i] * grown[i], key + i * ld, N, mine + P);
      k.decay_row(overlap + i * kChunk, total, nullptr, total[i], i, row_of);
      k.scale_copy(-beta[i], row_of, i, row_of);
      k.mix(row_of, solved, P + N, i, P + N, mine);
    }
    // What is written: the solution less what the state already holds there.
    for (int i = 0; i < count; i++)
      k.scale_copy(-1, solved + i * (P + N) + P, N, solved + i * (P + N) + P);
    product(count, P, N, solved + P, P + N, 1, state, P, solved, P + N, true);

    product(count, count, N, q, ld, 1, turned, kChunk, overlap, kChunk, false);
    std::memset(weights, 0, sizeof(float) * kChunk * kChunk);
    for (int i = 0; i < count; i++) {
      k.decay_row(overlap + i * kChunk, total, nullptr, total[i], i + 1, weights + i * kChunk);
      k.scale_copy(grown[i], q + i * ld, N, queries + i * N);
    }
    float* y = scan.y(row, head);
    product(count, P, N, queries, N, 1, state, P, y, c.inner, false);
    triangle_product(count, P, weights, kChunk, solved, P + N, y, c.inner, true);
    const float last = total[count - 1];
    for (int i = 0; i < count; i++)
      k.scale_copy(std::exp(last - total[i]), key + i * ld, N, queries + i * N);
    k.scale_copy(grown[count - 1], state, N * P, state);
    product(N, P, count, queries, 1, N, solved, P + N, state, P, true);
  }
}

void scan_segments(const Scan& scan, const Segments& segments, int rows) {
  Workspace& scratch = scan.scratch;
  const int heads = scan.config.state_heads();
  if (!scan.r.delta && !std::all_of(segments.begin(), segments.end(), few)) {
    scratch.scores.shape(rows, kChunk);
    for (const Segment& segment : segments)
      if (!few(segment))
        scratch.team->run((segment.count + kChunk - 1) / kChunk, [&](int chunk, int thread) {
          const int from = chunk * kChunk;
          ssd_overlap(scan, segment.row + from, std::min(kChunk, segment.count - from),
                      scratch.local[thread]);
        });
  }
  scratch.team->run(int(segments.size()) * heads, [&](int task, int thread) {
    const Segment& segment = segments[task / heads];
    const int head = task % heads;
    Local& local = scratch.local[thread];
    if (!few(segment)) {
      if (scan.r.delta) delta_chunks(scan, segment, head, local);
      else ssd_chunks(scan, segment, head, local);
      return;
    }
    for (int row = segment.row; row < segment.row + segment.count; row++)
      if (scan.r.delta) delta_token(scan, segment, row, head, local);
      else ssd_token(scan, segment, row, head);
  });
}

}  // namespace

void convolve(Workspace& scratch, const Convolution& conv, Floats LayerState::*tail, int index,
              const Segments& segments, const float* x, int64_t ldx, bool activate, bool residual,
              Rows& out) {
  const int width = conv.channels, before = conv.taps - 1;
  const int rows = segments.back().row + segments.back().count;
  float* to = out.shape(rows, width);
  scratch.team->run(rows, [&](int row, int) {
    const Segment& segment = segments[scratch.segment_of[row]];
    const float* past = (segment.stream->layers[index].*tail).data();
    const float* window[64];
    for (int j = 0; j < conv.taps; j++) {
      const int at = row - before + j;
      window[j] = at >= segment.row ? x + at * ldx
                                    : past + int64_t(before + at - segment.row) * width;
    }
    kernels().convolve(window, conv.weight.data(), conv.bias.empty() ? nullptr : conv.bias.data(),
                       conv.taps, width, activate, residual ? x + row * ldx : nullptr,
                       to + int64_t(row) * width);
  });
  for (const Segment& segment : segments) {
    float* past = (segment.stream->layers[index].*tail).data();
    const int fresh = std::min(before, segment.count), old = before - fresh;
    if (old) std::memmove(past, past + int64_t(fresh) * width, size_t(old) * width * 4);
    for (int j = 0; j < fresh; j++)
      std::memcpy(past + int64_t(old + j) * width,
                  x + int64_t(segment.row + segment.count - fresh + j) * ldx, size_t(width) * 4);
  }
}

void recur(Workspace& scratch, int index, const Segments& segments, Operand& u, int rows, float* out,
           bool add) {
  const Recurrence& r = scratch.stack.layers[index].recurrence;
  const Config& c = scratch.stack.config;
  const int64_t width = r.in.outputs();
  float* projected = scratch.projected.shape(rows, width);
  u.times(r.in, projected, width, false, *scratch.team);
  convolve(scratch, r.conv, &LayerState::tail, index, segments, projected + c.inner, width, true,
           false, scratch.convolved);
  float* inner = scratch.inner.shape(rows, c.inner);
  scan_segments(Scan{scratch, c, r, index}, segments, rows);
  scratch.team->run(rows, [&](int row, int) {
    float* mine = inner + int64_t(row) * c.inner;
    kernels().rms_norm(mine, projected + row * width, r.norm.data(), c.eps, c.inner, mine);
  });
  scratch.second.set(inner, c.inner, rows, c.inner);
  scratch.second.times(r.out, out, c.width, add, *scratch.team);
}

}  // namespace slm
