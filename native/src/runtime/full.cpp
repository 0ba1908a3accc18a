// Full attention: every token read so far, in tiles with a running softmax.
#include <algorithm>
#include <cmath>

#include "context.h"

namespace slm {

namespace {

constexpr int kQueries = 64, kKeys = 128;

struct Full {
  Workspace& scratch;
  const Config& c;
  int index;
  float scale;

  Cache& cache(const Segment& s) const { return s.stream->layers[index].cache; }
  int per_group() const { return c.heads / c.groups; }
};

// Append the segment's keys (turned by their position) and values to the cache.
void append(const Full& f, const Segment& s) {
  const Config& c = f.c;
  Cache& cache = f.cache(s);
  const int before = cache.count();
  cache.grow(s.count);
  for (int i = 0; i < s.count; i++) {
    const float* pair = f.scratch.pairs.row(s.row + i);
    for (int g = 0; g < c.groups; g++) {
      const float* key = pair + g * c.head;
      float* to = cache.key(g, before + i);
      if (c.theta) rotate(key, f.scratch.turns[s.row + i], c.head, to);
      else std::memcpy(to, key, size_t(c.head) * 4);
      std::memcpy(cache.value(g, before + i), pair + (c.groups + g) * c.head, size_t(c.head) * 4);
    }
  }
}

void one_query(const Full& f, const Segment& s, int head, Local& local) {
  const Config& c = f.c;
  const Kernels& k = kernels();
  Cache& cache = f.cache(s);
  const int group = head / f.per_group(), count = cache.count();
  const float* query = f.scratch.query.row(s.row) + head * c.head;
  float* out = f.scratch.attended.row(s.row) + head * c.head;
  float* scores = local.a.shape(1, count);
  if (c.theta) {
    float* turned = local.b.shape(1, c.head);
    rotate(query, f.scratch.turns[s.row], c.head, turned);
    query = turned;
  }
  k.scores(query, cache.key(group, 0), c.head, count, c.head, f.scale, scores);
  k.softmax(scores, count);
  std::memset(out, 0, size_t(c.head) * 4);
  k.mix(scores, cache.value(group, 0), c.head, count, c.head, out);
}

// Queries [from, to) of a segment and one head: keys tile by tile, with a running maximum.
void query_tile(const Full& f, const Segment& s, int head, int from, int to, Local& local) {
  const Config& c = f.c;
  const Kernels& k = kernels();
  Cache& cache = f.cache(s);
  const int group = head / f.per_group(), rows = to - from;
  const int before = cache.count() - s.count;  // tokens older than the segment
  float* queries = local.a.shape(rows, c.head);
  float* keys = local.b.shape(c.head, kKeys);
  float* scores = local.c.shape(rows, kKeys);
  float* out = local.d.shape(rows, c.head);
  float top[kQueries], total[kQueries];
  for (int i = 0; i < rows; i++) {
    const int row = s.row + from + i;
    const float* query = f.scratch.query.row(row) + head * c.head;
    if (c.theta) rotate(query, f.scratch.turns[row], c.head, queries + i * c.head);
    else std::memcpy(queries + i * c.head, query, size_t(c.head) * 4);
    k.scale_copy(f.scale, queries + i * c.head, c.head, queries + i * c.head);
    top[i] = -INFINITY;
    total[i] = 0;
  }
  std::memset(out, 0, size_t(rows) * c.head * 4);
  for (int first = 0; first < before + to; first += kKeys) {
    const int columns = std::min(kKeys, before + to - first);
    transpose(cache.key(group, first), c.head, columns, c.head, keys, kKeys);
    product(rows, columns, c.head, queries, c.head, 1, keys, kKeys, scores, kKeys, false);
    for (int i = 0; i < rows; i++) {
      float* mine = scores + i * kKeys;
      const int seen = std::min(columns, before + from + i + 1 - first);
      for (int j = std::max(seen, 0); j < columns; j++) mine[j] = -INFINITY;
      if (seen <= 0) {
        std::memset(mine, 0, sizeof(float) * columns);
        continue;
      }
      const float best = std::max(top[i], k.maximum(mine, seen));
      const float fade = std::exp(top[i] - best);
      const float sum = k.softmax_at(mine, columns, best);
      if (fade != 1) k.scale_copy(fade, out + i * c.head, c.head, out + i * c.head);
      total[i] = total[i] * fade + sum;
      top[i] = best;
    }
    product(rows, c.head, columns, scores, kKeys, 1, cache.value(group, first), c.head, out,
            c.head, true);
  }
  for (int i = 0; i < rows; i++)
    k.scale_copy(1 / total[i], out + i * c.head, c.head,
                 f.scratch.attended.row(s.row + from + i) + head * c.head);
}

}  // namespace

void attend_full(Workspace& scratch, int index, const Segments& segments) {
  const Config& c = scratch.stack.config;
  const Full f{scratch, c, index, 1 / std::sqrt(float(c.head))};
  for (const Segment& segment : segments) append(f, segment);
  for (const Segment& s : segments) {
    if (s.count == 1) continue;
    const int tiles = (s.count + kQueries - 1) / kQueries;
    scratch.team->run(tiles * c.heads, [&](int task, int thread) {
      const int from = task / c.heads * kQueries;
      query_tile(f, s, task % c.heads, from, std::min(s.count, from + kQueries),
                 scratch.local[thread]);
    });
  }
  scratch.team->run(int(segments.size()) * c.heads, [&](int task, int thread) {
    const Segment& s = segments[task / c.heads];
    if (s.count == 1) one_query(f, s, task % c.heads, scratch.local[thread]);
  });
}

}  // namespace slm
