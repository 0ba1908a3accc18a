// B'MOJO attention over a segment, forward and backward, one tile of queries at a time.
//
// The keys a tile can see are gathered into scratch: window, eidetic slots, fading tokens. Each key is
// visible to an interval of query times, which is all the mask there is. The backward pass computes
// the scores again from the saved log-sum-exp, so that memory is linear in the length.
#pragma once

#include "tiles.h"

namespace slm {
namespace SLM_ISA {

constexpr int kNever = 1 << 30;

struct AttentionTiles {
  int ld, most, lds;
  float *k, *kt, *v, *vt, *q, *qf, *s, *dp, *o, *dq, *dqf, *dk, *dv;
  int *first, *last, *row;

  AttentionTiles(const AttentionTask& t, Scratch& s_, bool backward) {
    ld = t.size + kPad;
    const int queries = t.refresh < kTileQueries ? t.refresh : kTileQueries;
    most = t.slots + (t.window ? t.window - 1 + queries : 0) + t.fading + queries;
    lds = (most + kLanes + 15) / 16 * 16 + kPad;
    const int64_t keys = (int64_t)most * ld, turned = (int64_t)t.size * lds;
    k = s_.take(keys), kt = s_.take(turned), v = s_.take(keys);
    q = s_.take((int64_t)kTileQueries * ld), qf = s_.take((int64_t)kTileQueries * ld);
    s = s_.take((int64_t)kTileQueries * lds), o = s_.take((int64_t)kTileQueries * ld);
    first = (int*)s_.take(lds), last = (int*)s_.take(lds), row = (int*)s_.take(lds);
    if (!backward) return;
    vt = s_.take(turned), dp = s_.take((int64_t)kTileQueries * lds);
    dq = s_.take((int64_t)kTileQueries * ld), dqf = s_.take((int64_t)kTileQueries * ld);
    dk = s_.take(keys), dv = s_.take(keys);
  }
};

// Turn pairs (i, i + D/2) by the angle of each row's place; `back` undoes it.
SLM_INLINE void rotate(const float* from, const float* angles, int64_t apart, int rows, int size,
                       int ld, bool back, float* to) {
  const int half = size / 2;
  for (int r = 0; r < rows; r++) {
    const float *cos = angles + r * apart, *sin = cos + half, *x = from + (int64_t)r * ld;
    float* y = to + (int64_t)r * ld;
    over(half, [&](int i, int m) {
      const vf c = get(cos + i, m), s = back ? -get(sin + i, m) : get(sin + i, m);
      const vf a = get(x + i, m), b = get(x + half + i, m);
      set(y + i, a * c - b * s, m);
      set(y + half + i, b * c + a * s, m);
    });
  }
}

// A tile of queries [begin, begin + count) of the segment, inside one refresh block.
struct AttentionTile {
  const AttentionTask& t;
  AttentionTiles f;
  int begin, count, keys, windowed, raw;  // keys: window first, then slots (raw), then fading
  float scale;

  AttentionTile(const AttentionTask& task, Scratch& s, bool backward)
      : t(task), f(task, s, backward), scale(1.0f / __builtin_sqrtf(float(task.size))) {}

  void add(int row, int64_t from, int64_t until) {
    f.row[keys] = row;
    f.first[keys] = int(from < -kNever ? -kNever : from);
    f.last[keys++] = int(until > kNever ? kNever : until);
  }

  // Which keys the tile sees; visibility counted from the tile's first query.
  void list(int block) {
    const int ring = t.window ? t.window - 1 : 0, old = t.slots + ring;
    const int64_t now = t.time + begin, end = count - 1;
    keys = 0;
    if (t.window) {
      const int64_t eldest = now - ring < 0 ? 0 : now - ring;
      for (int64_t when = eldest; when < now + count; when++)
        add(int(old + when - t.time), when - now, when - now + ring);
    }
    windowed = keys;
    for (int i = 0; i < t.slots; i++) {
      const int64_t when = t.times[(int64_t)block * t.slots + i];
      const int64_t from = t.keep_duplicates ? 0 : when + t.window - now;
      if (when >= 0 && from <= end)
        add(int(t.names[(int64_t)block * t.slots + i]), from, kNever);
    }
    raw = keys;
    const int passed = t.fading ? t.fading + (t.chunked_fading ? t.refresh : t.lag) - 1 : 0;
    const int64_t boundary = now - now % t.refresh;
    const int64_t young = t.chunked_fading ? boundary - 1 : now + end - t.lag;
    const int64_t eldest = (t.chunked_fading ? boundary : now - t.lag + 1) - t.fading;
    for (int64_t when = eldest < 0 ? 0 : eldest; t.fading && when <= young; when++) {
      const int64_t from = t.chunked_fading ? 0 : when + t.lag - now;
      add(int(passed + when - t.time), from, t.chunked_fading ? kNever : from + t.fading - 1);
    }
    for (int i = keys; i < (keys + kLanes - 1) / kLanes * kLanes; i++) f.first[i] = kNever + 1;
  }

  // Where the pair of key j lies, and how far its value is from it.
  const char* pair(int j, bool& half, int64_t& value) const {
    const int ring = t.window ? t.window - 1 : 0;
    const int passed = t.fading ? t.fading + (t.chunked_fading ? t.refresh : t.lag) - 1 : 0;
    const int at = f.row[j];
    const Tokens* from;
    int index = at;
    if (j >= raw) {
      from = at < passed ? &t.faded_ring : &t.faded;
      if (at >= passed) index -= passed;
      value = at < passed ? t.carried_value : t.value;
    } else if (at < t.slots + ring) {
      from = at < t.slots ? &t.old : &t.ring;
      if (at >= t.slots) index -= t.slots;
      value = t.carried_value;
    } else {
      from = &t.keys;
      index -= t.slots + ring;
      value = t.value;
    }
    half = from->half;
    return from->at(index);
  }

  void gather(bool backward) const {
    for (int j = 0; j < keys; j++) {
      bool half;
      int64_t apart;
      const char* key = pair(j, half, apart);
      const char* value = key + apart * (half ? 2 : 4);
      over(t.size, [&](int i, int m) {
        set(f.k + (int64_t)j * f.ld + i, fetch(key, half, i, m), m);
        set(f.v + (int64_t)j * f.ld + i, fetch(value, half, i, m), m);
      });
    }
    if (t.rope && windowed)
      rotate(f.k, angle(f.row[0] - t.slots - begin), t.size, windowed, t.size, f.ld, false, f.k);
    transpose(f.k, f.ld, keys, t.size, f.kt, f.lds);
    if (backward) transpose(f.v, f.ld, keys, t.size, f.vt, f.lds);
  }

  // Angles of place - (window - 1), counted from the tile's first query, and of distance `window`.
  const float* angle(int place) const { return t.rope + (int64_t)place * t.size; }
  const float* now() const { return angle(t.window ? t.window - 1 : 0); }
  const float* far() const { return angle((t.window ? t.window - 1 : 0) + kTileQueries); }

  void scores(int head) const {
    widen(t.q, begin, head * t.size, count, t.size, f.q, f.ld);
    for (int r = 0; r < count; r++)
      over(t.size, [&](int i, int m) {
        float* x = f.q + (int64_t)r * f.ld + i;
        set(x, get(x, m) * scale, m);
      });
    if (!t.rope) {
      product_small({count, keys, t.size, f.q, f.ld, 1, f.kt, f.lds, f.s, f.lds, false});
      return;
    }
    rotate(f.q, far(), 0, count, t.size, f.ld, false, f.qf);
    rotate(f.q, now(), t.size, count, t.size, f.ld, false, f.q);
    product_small({count, windowed, t.size, f.q, f.ld, 1, f.kt, f.lds, f.s, f.lds, false});
    product_small({count, keys - windowed, t.size, f.qf, f.ld, 1, f.kt + windowed, f.lds,
                   f.s + windowed, f.lds, false});
  }

  vf seen(int r, int i) const {
    const float none = -__builtin_inff();
    const vi from = load_i(f.first + i), until = load_i(f.last + i), at = splat_i(r);
    const vf s = load(f.s + (int64_t)r * f.lds + i);
    return ((from <= at) & (at <= until)) ? s : splat(none);
  }

  // exp(score - top) of the keys that are seen, 0 elsewhere; returns top + log(sum).
  float weights(int r, float& inverse) const {
    const float none = -__builtin_inff();
    float* line = f.s + (int64_t)r * f.lds;
    vf best = splat(none);
    for (int i = 0; i < keys; i += kLanes) {
      const vf s = seen(r, i);
      store(line + i, s);
      best = maximum(best, s);
    }
    const float top = largest(best);
    if (top == none) {
      zero(line, keys);
      inverse = 0;
      return none;
    }
    vf total = {};
    for (int i = 0; i < keys; i += kLanes) {
      const vf e = exp(load(line + i) - top);
      store(line + i, e);
      total += e;
    }
    const float all = sum(total);
    inverse = 1.0f / all;
    return top + __builtin_logf(all);
  }

  void forward(int head) const {
    float inverse[kTileQueries];
    scores(head);
    for (int r = 0; r < count; r++)
      t.lse[(int64_t)(begin + r) * t.lse_step + head] = weights(r, inverse[r]);
    product_small({count, t.size, keys, f.s, f.lds, 1, f.v, f.ld, f.o, f.ld, false});
    scale_heads(f.o, f.o, f.ld, count, 1, t.size, [&](int, int r) { return inverse[r]; });
    narrow(f.o, f.ld, count, t.size, t.out, begin, head * t.size);
  }

  // Weights into s, their gradient times themselves into dp.
  void slopes() const {
    for (int r = 0; r < count; r++) {
      const int64_t line = (int64_t)r * f.lds;
      vf mean = {};
      for (int i = 0; i < keys; i += kLanes) {
        const vf p = load(f.s + line + i);
        // Behind the last key dp was not written and may be anything.
        const vf d = load_i(f.first + i) > kNever ? vf{} : load(f.dp + line + i);
        mean += p * d;
      }
      const float delta = sum(mean);
      for (int i = 0; i < keys; i += kLanes)
        store(f.dp + line + i, load(f.s + line + i) * (load(f.dp + line + i) - delta));
    }
  }

  void backward(int head) const {
    scores(head);
    for (int r = 0; r < count; r++) {
      const float lse = t.lse[(int64_t)(begin + r) * t.lse_step + head];
      float* line = f.s + (int64_t)r * f.lds;
      if (lse == -__builtin_inff()) zero(line, (keys + kLanes - 1) / kLanes * kLanes);
      else
        for (int i = 0; i < keys; i += kLanes) store(line + i, exp(seen(r, i) - lse));
    }
    widen(t.dout, begin, head * t.size, count, t.size, f.o, f.ld);
    product_small({count, keys, t.size, f.o, f.ld, 1, f.vt, f.lds, f.dp, f.lds, false});
    product_small({keys, t.size, count, f.s, 1, f.lds, f.o, f.ld, f.dv, f.ld, head > 0});
    slopes();
    const float* far_q = t.rope ? f.qf : f.q;
    const int rest = keys - windowed;
    product_small({windowed, t.size, count, f.dp, 1, f.lds, f.q, f.ld, f.dk, f.ld, head > 0});
    product_small({rest, t.size, count, f.dp + windowed, 1, f.lds, far_q, f.ld,
                   f.dk + (int64_t)windowed * f.ld, f.ld, head > 0});
    if (!t.rope) {
      product_small({count, t.size, keys, f.dp, f.lds, 1, f.k, f.ld, f.dq, f.ld, false});
    } else {
      product_small({count, t.size, windowed, f.dp, f.lds, 1, f.k, f.ld, f.dq, f.ld, false});
      product_small({count, t.size, rest, f.dp + windowed, f.lds, 1,
                     f.k + (int64_t)windowed * f.ld, f.ld, f.dqf, f.ld, false});
      rotate(f.dq, now(), t.size, count, t.size, f.ld, true, f.dq);
      rotate(f.dqf, far(), 0, count, t.size, f.ld, true, f.dqf);
    }
    for (int r = 0; r < count; r++)
      over(t.size, [&](int i, int m) {
        const int64_t at = (int64_t)r * f.ld + i;
        const vf d = t.rope ? get(f.dq + at, m) + get(f.dqf + at, m) : get(f.dq + at, m);
        set(f.dq + at, d * scale, m);
      });
    narrow(f.dq, f.ld, count, t.size, t.dq, begin, head * t.size);
  }

  void scatter() const {
    if (t.rope && windowed)
      rotate(f.dk, angle(f.row[0] - t.slots - begin), t.size, windowed, t.size, f.ld, true, f.dk);
    for (int j = 0; j < keys; j++) {
      float* to = (j < raw ? t.dpool : t.dfaded) + (int64_t)f.row[j] * 2 * t.size;
      const float *dk = f.dk + (int64_t)j * f.ld, *dv = f.dv + (int64_t)j * f.ld;
      over(t.size, [&](int i, int m) {
        set(to + i, get(to + i, m) + get(dk + i, m), m);
        set(to + t.size + i, get(to + t.size + i, m) + get(dv + i, m), m);
      });
    }
  }
};

template <class Body>
SLM_INLINE void over_tiles(const AttentionTask& t, AttentionTile& tile, Body body) {
  const int phase = int(t.time % t.refresh);
  for (int begin = 0; begin < t.steps;) {
    const int block = (phase + begin) / t.refresh;
    const int64_t end = (int64_t)(block + 1) * t.refresh - phase;
    int count = int(end < t.steps ? end : t.steps) - begin;
    if (count > kTileQueries) count = kTileQueries;
    tile.begin = begin, tile.count = count;
    tile.list(block);
    body();
    begin += count;
  }
}

static void attention_forward(const AttentionTask& t, float* scratch) {
  Scratch s{scratch, 0};
  AttentionTile tile(t, s, false);
  over_tiles(t, tile, [&] {
    tile.gather(false);
    for (int head = 0; head < t.heads; head++) tile.forward(head);
  });
}

static void attention_backward(const AttentionTask& t, float* scratch) {
  Scratch s{scratch, 0};
  AttentionTile tile(t, s, true);
  over_tiles(t, tile, [&] {
    tile.gather(true);
    for (int head = 0; head < t.heads; head++) tile.backward(head);
    tile.scatter();
  });
}

static int64_t attention_scratch(const AttentionTask& t, bool backward) {
  Scratch s{nullptr, 0};
  AttentionTiles all(t, s, backward);
  return s.used;
}

}  // namespace SLM_ISA
}  // namespace slm
