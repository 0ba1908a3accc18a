/* Recognise 16-bit audio from standard input with a device file, in C99.
 *
 *   cc recognize.c -lsolomonic_core -lstdc++ -lm -lpthread -o recognize
 *   arecord -t raw -f S16_LE -r 16000 | ./recognize english.solo
 */
#include <stdio.h>
#include <stdlib.h>

#include "solomonic_speech.h"

static void must(slm_status status) {
  if (status == SLM_OK) return;
  fprintf(stderr, "error: %s\n", slm_error());
  exit(status == SLM_BAD_ARGUMENT ? 2 : 1);
}

static void show(slm_speech* speech) {
  slm_speech_event event;
  int i;
  must(slm_speech_decode(1, &speech));
  while (slm_speech_next(speech, &event)) {
    if (event.kind == SLM_PARTIAL) printf("%7.2f s  ... %s\n", event.time, event.text);
    if (event.kind != SLM_FINAL) continue;
    printf("%7.2f s  %s  (%s)\n", event.time, event.text, event.reason);
    for (i = 0; i < event.word_count; i++)
      printf("           %5.2f to %5.2f s  %s  %.2f\n", event.words[i].start, event.words[i].end,
             event.words[i].text, event.words[i].confidence);
  }
  fflush(stdout);
}

int main(int argc, char** argv) {
  slm_recognizer* recognizer = NULL;
  slm_words* words = NULL;
  slm_speech* speech = NULL;
  int16_t samples[1600]; /* 100 ms */
  size_t count;
  int i;
  if (argc < 2) {
    fprintf(stderr, "usage: %s MODEL.solo [PHRASE...] < AUDIO\n", argv[0]);
    return 2;
  }
  must(slm_recognizer_open(argv[1], SLM_ARENA, &recognizer));
  must(slm_recognizer_set(recognizer, "budget", 0.5)); /* half a core, not more */
  if (argc > 2) {
    must(slm_words_create(recognizer, &words));
    for (i = 2; i < argc; i++) must(slm_words_add(words, NULL, argv[i], 0));
  }
  must(slm_speech_create(recognizer, words, 1, &speech));
  slm_words_free(words);
  while ((count = fread(samples, sizeof samples[0], 1600, stdin)) > 0) {
    must(slm_speech_accept_s16(speech, 16000, samples, (int64_t)count));
    show(speech);
  }
  must(slm_speech_finish(speech));
  show(speech);
  slm_speech_free(speech);
  slm_recognizer_free(recognizer);
  return 0;
}
