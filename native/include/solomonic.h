/* The native core of solomonic: language models of every layer kind, read token by token or in
 * long segments, on the CPU, without Python.
 *
 * Rules of this interface. Handles are opaque and freed by their _free function (NULL is allowed).
 * Every function that can fail returns a status, never ends the process and leaves its outputs
 * untouched when it fails; slm_error() then has one sentence for people. Arrays are row-major
 * float32 unless said otherwise. A model is read-only once finished and may be shared by threads; a
 * context (scratch memory and a team of threads) and a stream belong to one thread at a time.
 */
#ifndef SOLOMONIC_H
#define SOLOMONIC_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define SLM_API __attribute__((visibility("default")))
#else
#define SLM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum slm_status {
  SLM_OK = 0,
  SLM_BAD_ARGUMENT = 1,  /* a value or a name that does not fit; nothing was changed */
  SLM_OUT_OF_MEMORY = 2,
  SLM_INTERNAL = 3 /* a fault of this library */
} slm_status;

/* What went wrong last on this thread, one sentence; "" if nothing has. */
SLM_API const char* slm_error(void);
SLM_API const char* slm_version(void);

/* ---- instruction sets ------------------------------------------------------------------------ */

SLM_API const char* slm_isa(void); /* the one in use */
/* Those this processor can run, best first, separated by spaces. */
SLM_API const char* slm_isa_list(void);
/* Switch all later calls of the process, for tests and comparisons. */
SLM_API slm_status slm_isa_use(const char* name);

/* ---- models ---------------------------------------------------------------------------------- */

typedef struct slm_model slm_model;
typedef struct slm_context slm_context;
typedef struct slm_stream slm_stream;

typedef enum slm_weights { SLM_F32 = 0, SLM_BF16 = 1, SLM_INT8 = 2, SLM_INT4 = 3 } slm_weights;

/* Names and meaning as in the Python class ModelConfig; all derived values filled in. */
typedef struct slm_config {
  const char* layers;      /* one letter a layer: T W M D F B L */
  const char* short_conv_layers; /* letters of the layers with a short convolution before q, k, v */
  int32_t vocab_size, hidden_size, heads, key_value_heads, head_dim, mlp_size;
  int32_t window, refresh, slots, fading, lag, taps;
  int32_t ssm_state, ssm_head_dim, ssm_expand, ssm_conv, chunk, short_conv;
  int32_t chunked_fading, fading_skip, keep_duplicates, delta_transition, tied; /* 0 or 1 */
  float rope_theta; /* 0: no positions */
  float norm_eps;
} slm_config;

SLM_API slm_status slm_model_create(const slm_config* config, slm_weights weights,
                                    slm_model** out);
/* Give one parameter by its Python name ("blocks.0.mixer.query.weight"); it is copied, packed and
 * quantised. `count` is its number of floats. */
SLM_API slm_status slm_model_set(slm_model* model, const char* name, const float* values,
                                 int64_t count);
/* Check that every parameter was given; only then can the model be read. */
SLM_API slm_status slm_model_finish(slm_model* model);
SLM_API int64_t slm_model_bytes(const slm_model* model); /* of packed weights */
SLM_API void slm_model_free(slm_model* model);

/* Scratch memory and a team of `threads` threads for reading with `model`. */
SLM_API slm_status slm_context_create(const slm_model* model, int32_t threads, slm_context** out);
SLM_API void slm_context_free(slm_context* context);

/* ---- streams --------------------------------------------------------------------------------- */

/* What a model remembers of one text. Constant in size unless the model has a T layer. */
SLM_API slm_status slm_stream_create(const slm_model* model, slm_stream** out);
SLM_API slm_status slm_stream_copy(const slm_stream* stream, slm_stream** out);
SLM_API slm_status slm_stream_reset(slm_stream* stream);
SLM_API void slm_stream_free(slm_stream* stream);
SLM_API int64_t slm_stream_bytes(const slm_stream* stream);
SLM_API int64_t slm_stream_time(const slm_stream* stream); /* tokens read */
SLM_API slm_status slm_stream_set_time(slm_stream* stream, int64_t time);

/* Copy one part of layer `layer` out of or into a stream, in the layout of the Python state:
 * "raw" (w-1, 2, G, D), "raw_eps" (w-1), "faded" (n, 2, G, D), "slots" (m, 2, G, D), "slot_eps" (m),
 * "past" (k, d), "conv" (taps-1, d), "ssm.h", "ssm.conv", "lstm.h" and "lstm.c" (d), for T "kv"
 * (S, 2, G, D); times of the slots
 * are int64: slm_stream_slot_times. `count` is the number of floats of the buffer and must fit.
 * slm_stream_count gives it: 0 if the layer has no such part, -1 if there is no such name. */
SLM_API int64_t slm_stream_count(const slm_stream* stream, int32_t layer, const char* part);
SLM_API slm_status slm_stream_get(const slm_stream* stream, int32_t layer, const char* part,
                                  float* values, int64_t count);
SLM_API slm_status slm_stream_set(slm_stream* stream, int32_t layer, const char* part,
                                  const float* values, int64_t count);
SLM_API slm_status slm_stream_get_slot_times(const slm_stream* stream, int32_t layer,
                                             int64_t* times, int64_t count);
SLM_API slm_status slm_stream_set_slot_times(slm_stream* stream, int32_t layer,
                                             const int64_t* times, int64_t count);

/* ---- reading --------------------------------------------------------------------------------- */

/* Read counts[i] tokens of stream i, those of stream 0 first in `tokens`. With `all` 0, logits is
 * (n, vocab): after the last token of each stream (rows of streams with count 0 are left alone);
 * with `all` 1 it is (sum of counts, vocab). NULL: no logits are computed. One call does all layers;
 * one token each is decoding, many are a prefill, and both may be mixed. A call that is refused has
 * moved no stream; after SLM_OUT_OF_MEMORY its streams must be reset or freed. */
SLM_API slm_status slm_read(slm_context* context, int32_t n, slm_stream* const* streams,
                            const int32_t* counts, const int32_t* tokens, int32_t all,
                            float* logits);
/* The same, and the vectors (width floats a row, rows as those of logits) that the head turns into
 * logits: the keys of a memory. Either output may be NULL. */
SLM_API slm_status slm_read_hidden(slm_context* context, int32_t n, slm_stream* const* streams,
                                   const int32_t* counts, const int32_t* tokens, int32_t all,
                                   float* logits, float* hidden);

/* ---- training -------------------------------------------------------------------------------- */

/* Ops of training and of reading long segments in PyTorch, forward and backward. What they compute
 * is defined in src/solomonic/kernels/<op>/reference.py; names of fields are the names there.
 *
 * An array is a batch of rows of tokens; what belongs to one token lies without gaps. data NULL: it
 * is absent. All sums are float32. Outputs are overwritten whole. `threads` changes the time and
 * never the result. */
typedef struct slm_array {
  void* data;
  int64_t row, step; /* elements from one row of the batch, and from one token, to the next */
  int32_t half;      /* 0 float32, 1 bfloat16 */
} slm_array;

typedef struct slm_ssd {
  int32_t rows, steps, heads, head_dim, state, chunk;
  slm_array x, dt, b, c, y;
  const float *rate, *h0; /* (H), (B, H, P, N) */
  float* h1;
  float* states; /* slm_ssd_states() floats, filled forward and read backward; NULL: not wanted */
  /* backward; y and h1 are not read */
  slm_array dy, dx, ddt, db, dc;
  const float* dh1; /* NULL: zero */
  float *dh0, *drate;
} slm_ssd;

SLM_API int64_t slm_ssd_states(const slm_ssd* op);
SLM_API slm_status slm_ssd_forward(const slm_ssd* op, int32_t threads);
SLM_API slm_status slm_ssd_backward(const slm_ssd* op, int32_t threads);

typedef struct slm_conv {
  int32_t rows, steps, channels, taps;
  slm_array x, tail, y; /* tail: taps - 1 tokens before x */
  const float *weight, *bias; /* (C, taps), (C) or NULL */
  slm_array dy, dx, dtail;
  float *dweight, *dbias; /* (C, taps), (C) */
} slm_conv;

SLM_API slm_status slm_conv_forward(const slm_conv* op, int32_t threads);
SLM_API slm_status slm_conv_backward(const slm_conv* op, int32_t threads);

typedef struct slm_attention {
  int32_t rows, steps, heads, groups, head_dim;
  int32_t window, refresh, slots, fading, lag, chunked_fading, keep_duplicates;
  float rope_theta;  /* 0: no positions */
  int32_t blocks;    /* refresh blocks the longest row touches: (time mod R + T) / R, rounded up */
  slm_array q, kv, faded;                 /* (B, T, H, D), (B, T, 2, G, D) twice */
  slm_array raw, faded_ring, slots_pairs; /* the carry: (B, .., 2, G, D) */
  const float *eps, *raw_eps, *slot_eps;  /* (B, T), (B, w-1), (B, m_e) */
  const int64_t *time, *slot_time;        /* (B), (B, m_e) */
  const int64_t* lengths;                 /* (B) or NULL: all T */
  slm_array out;
  float* lse;                             /* (B, T, H): log of the sum of exponentials */
  int64_t *names, *kept; /* (B, blocks + 1, m_e): which token of [slots | raw | kv], and its time */
  slm_array new_raw, new_faded_ring, new_slots_pairs;
  float *new_raw_eps, *new_slot_eps;
  int64_t* new_slot_time;
  /* backward: reads lse, names and kept; gradients of the new carry may be absent */
  slm_array dout, dnew_raw, dnew_faded_ring, dnew_slots_pairs;
  slm_array dq, dkv, dfaded, draw, dfaded_ring, dslots_pairs;
} slm_attention;

SLM_API slm_status slm_attention_forward(const slm_attention* op, int32_t threads);
SLM_API slm_status slm_attention_backward(const slm_attention* op, int32_t threads);

typedef struct slm_delta {
  int32_t rows, steps, heads, head_dim, state, chunk;
  slm_array q, k, v, log_decay, beta, y; /* (B, T, H, N) twice, (B, T, H, P), (B, T, H) twice */
  const float* s0;                       /* (B, H, N, P) */
  float *s1, *states;                    /* states: slm_delta_states() floats or NULL */
  slm_array dy, dq, dk, dv, dlog_decay, dbeta;
  const float* ds1; /* NULL: zero */
  float* ds0;
} slm_delta;

SLM_API int64_t slm_delta_states(const slm_delta* op);
SLM_API slm_status slm_delta_forward(const slm_delta* op, int32_t threads);
SLM_API slm_status slm_delta_backward(const slm_delta* op, int32_t threads);

/* Cells of a transducer's joiner, `count` of them, `width` hidden units and `outputs` outputs each.
 * Everything is float32 without gaps; each function reads and writes only what it names. */
typedef struct slm_transducer_cells {
  int64_t count;
  int32_t width, outputs, blank;
  const int64_t *rows, *columns; /* (N): frame and label position of each cell */
  const int64_t* labels;         /* (N): the label that may follow; -1: none, -2: no cell */
  const float *acoustic, *label; /* (frames, width), (positions, width) */
  float *units, *slope;          /* (N, width) */
  float* logits;                 /* (N, outputs) */
  float *stay, *move, *total;    /* (N) */
  float *to_acoustic, *to_label; /* shaped like acoustic and label, added to */
} slm_transducer_cells;

/* units from acoustic and label, by rows and columns */
SLM_API slm_status slm_transducer_hidden(const slm_transducer_cells* op, int32_t threads);
/* to_acoustic and to_label from units and slope, by rows and columns */
SLM_API slm_status slm_transducer_spread(const slm_transducer_cells* op, int32_t threads);
/* log-probabilities stay and move, and total, from logits and labels */
SLM_API slm_status slm_transducer_scores(const slm_transducer_cells* op, int32_t threads);
/* slopes over the logits from labels, total and the occupancies stay and move */
SLM_API slm_status slm_transducer_slopes(const slm_transducer_cells* op, int32_t threads);

/* Sum over all paths of each row of a transducer's lattice, in float64 inside. */
typedef struct slm_transducer {
  int32_t rows, frames, labels;
  slm_array blank, label;                        /* (B, T, U + 1), (B, T, U), float32 */
  const int64_t *frame_lengths, *target_lengths; /* (B) */
  float *nll, *gone, *said;                      /* (B), and shaped like blank and label */
} slm_transducer;

SLM_API slm_status slm_transducer_lattice(const slm_transducer* op, int32_t threads);

/* c (m, n) = a b, float32: a (m, k) and b (k, n) are row-major, or with `turned` stored as their
 * transposes. Meant for large products; rows of c are ldc apart. */
typedef struct slm_matmul {
  int32_t m, n, k;
  const float *a, *b;
  int64_t lda, ldb;
  int32_t a_turned, b_turned;
  float* c;
  int64_t ldc;
} slm_matmul;

SLM_API slm_status slm_matmul_run(const slm_matmul* op, int32_t threads);

#ifdef __cplusplus
}
#endif

#endif /* SOLOMONIC_H */
