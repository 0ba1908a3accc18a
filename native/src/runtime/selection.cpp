// The eidetic memory: how surprising a token was, and which tokens are kept (bmojo.md).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "context.h"

namespace slm {

namespace {

typedef History::Kept Kept;

// What is not a number surprises nobody.
float rank(const Kept& kept) { return std::isnan(kept.eps) ? -INFINITY : kept.eps; }

// The m best of the slots before and a block's tokens, best first. A tie goes to the earlier token:
// kept ones are older.
void compete(const Kept* before, int m, std::vector<Kept>& tokens, Kept* after) {
  std::sort(tokens.begin(), tokens.end(), [](const Kept& a, const Kept& b) {
    return rank(a) != rank(b) ? rank(a) > rank(b) : a.time < b.time;
  });
  size_t next = 0;
  for (int place = 0, held = 0; place < m; place++) {
    const bool fresh = next < tokens.size() && tokens[next].eps > before[held].eps;
    after[place] = fresh ? tokens[next++] : before[held++];
  }
}

void slots_of(const Slots& slots, std::vector<Kept>& out) {
  out.clear();
  for (size_t i = 0; i < slots.eps.size(); i++)
    out.push_back({slots.eps[i], slots.time[i], slots.time[i] < 0 ? -1 : int(i)});
}

}  // namespace

void innovate(Workspace& scratch, int index, const Segments& segments) {
  const Config& c = scratch.stack.config;
  const Kernels& k = kernels();
  const int rows = segments.back().row + segments.back().count;
  float* eps = scratch.eps.shape(rows, 1);
  scratch.team->run(rows, [&](int row, int thread) {
    const Segment& segment = segments[scratch.segment_of[row]];
    const Slide& past = segment.stream->layers[index].past;
    const int64_t time = segment.stream->time + row - segment.row;
    const float* y = scratch.y.row(row);
    const int exist = int(std::min<int64_t>(c.taps, time));
    if (exist == 0) {
      eps[row] = 1;
      return;
    }
    float* guess = scratch.local[thread].a.shape(1, c.width);
    std::memset(guess, 0, size_t(c.width) * 4);
    const float mass = 1 - std::ldexp(1.0f, -exist);
    for (int j = 1; j <= exist; j++) {
      const int at = row - j;
      const float* before = at >= segment.row ? scratch.y.row(at)
                                              : past.entry(0, c.taps + at - segment.row);
      k.axpy(std::ldexp(1.0f, -j) / mass, before, c.width, guess);
    }
    eps[row] = k.squared_distance(y, guess, c.width) / (k.squared_norm(y, c.width) + 1e-6f);
  });
  for (const Segment& segment : segments) {
    Slide& past = segment.stream->layers[index].past;
    for (int i = std::max(0, segment.count - c.taps); i < segment.count; i++) {
      past.push();
      std::memcpy(past.entry(0, c.taps - 1), scratch.y.row(segment.row + i), size_t(c.width) * 4);
    }
  }
}

void choose(const Workspace& scratch, int index, const Segment& segment, History& out) {
  const Config& c = scratch.stack.config;
  const LayerState& state = segment.stream->layers[index];
  const int64_t now = segment.stream->time, end = now + segment.count;
  out.start = now / c.refresh * c.refresh;
  out.blocks = int((end - out.start + c.refresh - 1) / c.refresh);
  out.kept.resize(size_t(out.blocks + 1) * c.slots);
  std::vector<Kept> before;
  slots_of(state.slots, before);
  std::copy(before.begin(), before.end(), out.kept.begin());
  std::vector<Kept> tokens;
  for (int block = 0; block < out.blocks; block++) {
    const Kept* mine = &out.kept[size_t(block) * c.slots];
    Kept* next = &out.kept[size_t(block + 1) * c.slots];
    const int64_t first = out.start + int64_t(block) * c.refresh, last = first + c.refresh;
    if (last > end) {
      std::copy(mine, mine + c.slots, next);
      continue;
    }
    tokens.clear();
    for (int64_t time = first; time < last; time++) {
      const float eps = time >= now
                            ? *scratch.eps.row(segment.row + (time - now))
                            : *state.eps.entry(0, state.eps.size() - int(now - time));
      tokens.push_back({eps, time, -1});
    }
    compete(mine, c.slots, tokens, next);
  }
}

void commit(Workspace& scratch, LayerState& state, int64_t newest) {
  const Config& c = scratch.stack.config;
  slots_of(state.slots, scratch.before);
  scratch.after.resize(size_t(c.slots));
  scratch.tokens.clear();
  const int size = state.eps.size();
  for (int i = c.refresh - 1; i >= 0; i--)
    scratch.tokens.push_back({*state.eps.entry(0, size - 1 - i), newest - i, -1});
  compete(scratch.before.data(), c.slots, scratch.tokens, scratch.after.data());
  install(scratch, state, scratch.after.data(), [&](int g, int64_t time) {
    const int entry = size - 1 - int(newest - time);
    return std::make_pair<const float*, const float*>(state.keys.entry(g, entry),
                                                      state.values.entry(g, entry));
  });
}

}  // namespace slm
