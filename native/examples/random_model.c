/* The C interface from beginning to end: a small model of random weights reads and goes on.
 *
 *   cmake -S native -B build/native -DSLM_PYTHON=OFF && cmake --build build/native
 *   cmake --install build/native --prefix /usr/local
 *   cc random_model.c -lsolomonic_core -lstdc++ -lpthread -lm
 *
 * A real program gives the parameters that training wrote; the names are those of
 * LanguageModel.named_parameters() in Python. Here they are drawn by chance, so the text is noise.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "solomonic.h"

enum { VOCAB = 64, WIDTH = 32, STATE = 16, HEAD = 16, LAYERS = 2, TAPS = 4, PROMPT = 8, NEW = 16 };
enum { INNER = 2 * WIDTH, HEADS = INNER / HEAD, MIXED = INNER + 2 * STATE };

static void must(slm_status status) {
  if (status == SLM_OK) return;
  fprintf(stderr, "%s\n", slm_error());
  exit(1);
}

static void give(slm_model* model, const char* name, int64_t count, float size, float middle) {
  float* values = malloc((size_t)count * sizeof *values);
  int64_t i;
  if (!values) exit(1);
  for (i = 0; i < count; i++)
    values[i] = middle + size * (2 * (float)rand() / (float)RAND_MAX - 1);
  must(slm_model_set(model, name, values, count));
  free(values);
}

/* One Mamba-2 layer ("M") without MLP. */
static void give_layer(slm_model* model, int layer) {
  static const struct {
    const char* name;
    int64_t count;
    float size, middle;
  } parts[] = {
      {"norm.weight", WIDTH, 0, 1},
      {"mixer.in_proj.weight", (int64_t)(INNER + MIXED + HEADS) * WIDTH, 0.2f, 0},
      {"mixer.conv.weight", (int64_t)MIXED * TAPS, 0.3f, 0},
      {"mixer.conv.bias", MIXED, 0.1f, 0},
      {"mixer.dt_bias", HEADS, 0.5f, -1},
      {"mixer.A_log", HEADS, 0.5f, 0},
      {"mixer.D", HEADS, 0, 1},
      {"mixer.norm.weight", INNER, 0, 1},
      {"mixer.out_proj.weight", (int64_t)WIDTH * INNER, 0.2f, 0},
  };
  size_t i;
  for (i = 0; i < sizeof parts / sizeof *parts; i++) {
    char name[64];
    snprintf(name, sizeof name, "blocks.%d.%s", layer, parts[i].name);
    give(model, name, parts[i].count, parts[i].size, parts[i].middle);
  }
}

static slm_model* random_model(void) {
  slm_config config;
  slm_model* model;
  int layer;
  memset(&config, 0, sizeof config); /* what no layer of the model uses may stay small */
  config.layers = "MM";
  config.vocab_size = VOCAB;
  config.hidden_size = WIDTH;
  config.heads = config.key_value_heads = config.head_dim = config.refresh = config.taps = 1;
  config.ssm_state = STATE;
  config.ssm_head_dim = HEAD;
  config.ssm_expand = INNER / WIDTH;
  config.ssm_conv = TAPS;
  config.tied = 1;
  config.norm_eps = 1e-5f;
  must(slm_model_create(&config, SLM_INT8, &model));
  for (layer = 0; layer < LAYERS; layer++) give_layer(model, layer);
  give(model, "norm.weight", WIDTH, 0, 1);
  give(model, "embed.weight", (int64_t)VOCAB * WIDTH, 0.5f, 0);
  must(slm_model_finish(model));
  return model;
}

static int32_t best(const float* logits) {
  int32_t token, top = 0;
  for (token = 1; token < VOCAB; token++)
    if (logits[token] > logits[top]) top = token;
  return top;
}

int main(void) {
  const int32_t prompt[PROMPT] = {1, 2, 3, 5, 8, 13, 21, 34};
  const int32_t prompt_count = PROMPT, one = 1, outside = VOCAB;
  float logits[VOCAB];
  slm_context* context;
  slm_stream* stream;
  slm_model* model = random_model();
  int i;
  must(slm_context_create(model, 1, &context));
  must(slm_stream_create(model, &stream));
  printf("instruction set %s of %s; %ld bytes of weights, %ld of state\n", slm_isa(),
         slm_isa_list(), (long)slm_model_bytes(model), (long)slm_stream_bytes(stream));

  must(slm_read(context, 1, &stream, &prompt_count, prompt, 0, logits)); /* prefill */
  for (i = 0; i < NEW; i++) {                                            /* decode */
    const int32_t token = best(logits);
    printf("%d ", (int)token);
    must(slm_read(context, 1, &stream, &one, &token, 0, logits));
  }
  printf("\nread %ld tokens\n", (long)slm_stream_time(stream));

  /* A mistake is a status and a sentence, and the stream stands where it stood. */
  if (slm_read(context, 1, &stream, &one, &outside, 0, logits) != SLM_BAD_ARGUMENT) return 1;
  printf("%s\n", slm_error());
  if (slm_stream_time(stream) != PROMPT + NEW) return 1;
  slm_stream_free(stream);
  slm_context_free(context);
  slm_model_free(model);
  return 0;
}
