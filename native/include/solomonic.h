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
  const char* layers;      /* one letter a layer: T W M D F B */
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
 * "past" (k, d), "conv" (taps-1, d), "ssm.h", "ssm.conv", for T "kv" (S, 2, G, D); times of the slots
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
 * one token each is decoding, many are a prefill, and both may be mixed. On failure no stream has
 * moved. */
SLM_API slm_status slm_read(slm_context* context, int32_t n, slm_stream* const* streams,
                            const int32_t* counts, const int32_t* tokens, int32_t all,
                            float* logits);

#ifdef __cplusplus
}
#endif

#endif /* SOLOMONIC_H */
