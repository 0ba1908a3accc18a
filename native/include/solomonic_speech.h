/* The recogniser of solomonic on a device: a model in one file, audio in, events, words and lattices
 * out, without Python.
 *
 * Rules as in solomonic.h: handles are opaque and freed by their _free function (NULL is allowed);
 * every function that can fail returns a status, never ends the process and leaves its outputs
 * untouched when it fails; slm_error() then has one sentence for people. Text is UTF-8.
 *
 * Threads: a recogniser that is not being set may be shared by any threads; a set of personal words
 * may be shared once it is not added to; a stream belongs to one thread at a time.
 *
 * Memory: reserved when a stream is made, and by its first utterances. What is accepted but not yet
 * decoded is kept (32 kB for each second of audio), so decode as the audio comes.
 */
#ifndef SOLOMONIC_SPEECH_H
#define SOLOMONIC_SPEECH_H

#include "solomonic.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the recogniser -------------------------------------------------------------------------- */

typedef struct slm_recognizer slm_recognizer;

typedef enum slm_open {
  SLM_ARENA = 0, /* read into one piece of memory, on huge pages where there are any: fastest */
  SLM_MAPPED = 1 /* mapped: pages come from the file as they are touched, and may be dropped */
} slm_open;

/* Open a device file (FORMAT.md). Everything in it is checked first. */
SLM_API slm_status slm_recognizer_open(const char* path, slm_open how, slm_recognizer** out);
/* The same from memory, which is copied. */
SLM_API slm_status slm_recognizer_open_memory(const void* data, size_t bytes, slm_recognizer** out);
SLM_API void slm_recognizer_free(slm_recognizer* recognizer);

/* Settings, which hold for streams that are created later. Names and meaning are those of the Python
 * classes: "decode.beam", "decode.nbest" and all others of DecodeConfig ("decode.greedy" 1: greedy
 * search), "endpoint.silence_ms" and all others of EndpointConfig, "voice.margin" and all others of
 * VoiceConfig; and
 *   "threads"    1        threads that one call of slm_speech_decode may use
 *   "budget"     0        share of one core that a stream may take, above 0 and at most 1; 0: no
 *                         limit. Before it would be exceeded the beam is narrowed, and speculative
 *                         results are left out; finals stay at their times
 *   "longest_s"  30       longest utterance, s, for which memory is reserved
 *   "lattice_limit" 0     most bytes of a lattice message; 0: 200 a second of audio, at least 1000
 *   "attention"  1        1: the model's attention hears personal words too, where it has one
 */
SLM_API slm_status slm_recognizer_set(slm_recognizer* recognizer, const char* name, double value);
SLM_API slm_status slm_recognizer_get(const slm_recognizer* recognizer, const char* name,
                                      double* value);
/* What it is, as JSON: model, sizes, weights, instruction set, settings. The text lives as long as
 * the recogniser, or until the next call. */
SLM_API const char* slm_recognizer_describe(slm_recognizer* recognizer);
/* Bytes of weights and tables, without those of streams. */
SLM_API int64_t slm_recognizer_bytes(const slm_recognizer* recognizer);

/* ---- personal words -------------------------------------------------------------------------- */

typedef struct slm_words slm_words;

SLM_API slm_status slm_words_create(const slm_recognizer* recognizer, slm_words** out);
SLM_API void slm_words_free(slm_words* words);
/* A phrase with its boost in nats a piece (0: the default, 1.5). `name` NULL: it is favoured
 * everywhere; else it is an entry of that class. */
SLM_API slm_status slm_words_add(slm_words* words, const char* name, const char* phrase,
                                 double boost);
/* A sentence that opens classes, such as "call @contact". */
SLM_API slm_status slm_words_carrier(slm_words* words, const char* text);

/* ---- streams of audio ------------------------------------------------------------------------ */

typedef struct slm_speech slm_speech;

/* words NULL: plain recognition. endpointing 0: all audio is one utterance. The stream keeps what it
 * needs of `words`; the recogniser must outlive it. */
SLM_API slm_status slm_speech_create(const slm_recognizer* recognizer, const slm_words* words,
                                     int32_t endpointing, slm_speech** out);
SLM_API void slm_speech_free(slm_speech* speech);
/* As if created anew, with other personal words if they are given; counters go on. */
SLM_API slm_status slm_speech_reset(slm_speech* speech, const slm_words* words);

/* Take `count` mono samples in [-1, 1], or of 16 bits, at any rate from 1,000 to 768,000 a second that
 * does not change within a stream. Any cut of the audio gives the same events. */
SLM_API slm_status slm_speech_accept(slm_speech* speech, double rate, const float* samples,
                                     int64_t count);
SLM_API slm_status slm_speech_accept_s16(slm_speech* speech, double rate, const int16_t* samples,
                                         int64_t count);
/* No more audio will come. The last word is not lost. */
SLM_API slm_status slm_speech_finish(slm_speech* speech);
/* Decode what has arrived in n streams of one recogniser, in step where several have audio. */
SLM_API slm_status slm_speech_decode(int32_t n, slm_speech* const* speeches);

/* ---- what comes out -------------------------------------------------------------------------- */

typedef enum slm_event_kind {
  SLM_SPEECH_START = 0,   /* somebody began to speak, at `start` */
  SLM_PARTIAL = 1,        /* the best words so far; the first `stable` will not change */
  SLM_STABLE_WORDS = 2,   /* words that have just become stable */
  SLM_SPECULATIVE_END = 3, /* probably over: begin work under `revision`, show nothing yet */
  SLM_RESET = 4,          /* drop the work of all revisions up to `revision` */
  SLM_FINAL = 5           /* over; with `commit` the speculated result stands */
} slm_event_kind;

typedef struct slm_word {
  const char* text;
  double start, end;  /* s of audio */
  double confidence;  /* 0 to 1 */
} slm_word;

typedef struct slm_speech_event {
  slm_event_kind kind;
  double time;        /* seconds of audio read when it was decided; never of a clock */
  int64_t utterance;  /* from 0 */
  double start;       /* SLM_SPEECH_START: where speech began, -1 if that is not known */
  const char* text;   /* SLM_PARTIAL, SLM_SPECULATIVE_END, SLM_FINAL; else "" */
  const slm_word* words;
  int32_t word_count, stable;
  int64_t revision;   /* SLM_SPECULATIVE_END, SLM_RESET, SLM_FINAL */
  int32_t commit;     /* SLM_FINAL */
  double confidence;  /* mean of the words, 1 when there are none */
  const char* reason; /* SLM_SPECULATIVE_END, SLM_FINAL: which end-pointer fired; else "" */
} slm_speech_event;

/* The next event: returns 1, or 0 when none waits (or `speech` or `out` is NULL). What it points to
 * lives until the next call on this stream. */
SLM_API int32_t slm_speech_next(slm_speech* speech, slm_speech_event* out);
/* The event that slm_speech_next gave last as JSON, the same as Python's; "" before the first. */
SLM_API const char* slm_speech_json(slm_speech* speech);
/* The lattice of that event as a message (docs/lattice-format.md), when it is a speculative end or a
 * final and "decode.lattice" is on; else *bytes is 0. */
SLM_API slm_status slm_speech_lattice(slm_speech* speech, const uint8_t** data, size_t* bytes);
/* The utterance under way as a final event with the reason "not finished", or else the last one, or an
 * empty one. It stands where slm_speech_next's event stood. Nothing is disturbed. */
SLM_API slm_status slm_speech_result(slm_speech* speech, slm_speech_event* out);

/* ---- what it costs --------------------------------------------------------------------------- */

typedef struct slm_speech_counters {
  int64_t blocks;    /* of audio looked at, 60 ms each for the usual model */
  int64_t encoded;   /* of these, read by encoder and search: none while nobody speaks */
  int64_t macs;      /* multiplications in them; 0 unless slm_speech_count_macs is on */
  int64_t lowered, raised; /* how often the beam was narrowed and widened for the budget */
  int32_t beam;      /* now */
  double seconds;    /* of processor time in slm_speech_accept and slm_speech_decode */
  double audio;      /* seconds of audio decoded */
} slm_speech_counters;

SLM_API slm_status slm_speech_count(const slm_speech* speech, slm_speech_counters* out);
/* Count multiplications in this process from now on (1) or not (0); off at first. */
SLM_API void slm_speech_count_macs(int32_t on);
/* Bytes that a stream holds. */
SLM_API int64_t slm_speech_bytes(const slm_speech* speech);
/* For tests of the budget: `now` says how many seconds of processor time have passed; NULL: the
 * system does. */
SLM_API slm_status slm_speech_clock(slm_speech* speech, double (*now)(void* user), void* user);

#ifdef __cplusplus
}
#endif

#endif /* SOLOMONIC_SPEECH_H */
