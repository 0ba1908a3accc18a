// One stream of audio on its way through the recogniser: what is buffered, searched and said. The twin
// of src/solomonic/speech/stream.py, which says why things happen when they do.
//
// Audio of any rate and cut -> samples at 16 kHz -> frames every 10 ms -> blocks of one encoder frame
// (60 ms). All behind the blocks goes block by block from the start of the stream, so that nothing that
// is said depends on how the audio was handed over.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bias_words.h"
#include "budget.h"
#include "endpoint.h"
#include "events.h"
#include "features.h"
#include "net.h"
#include "recognizer.h"
#include "search.h"
#include "voice.h"

namespace slm {

struct Counters {
  int64_t blocks = 0, encoded = 0, macs = 0;
  double seconds = 0;  // of processor time in `accept` and `decode`
  double audio = 0;    // s, of what was decoded before the last reset
};

class Stream {
 public:
  // `recognizer` must outlive it. `words` (may be null) are walked by this stream alone, and by the
  // model's attention if it has one and both `attention` and the settings let it.
  Stream(const Recognizer& recognizer, std::unique_ptr<PersonalWords> words, bool endpointing,
         bool attention = true);

  // As if made anew; counters go on.
  void reset(std::unique_ptr<PersonalWords> words);
  // Take mono samples; nothing is decoded yet. BadArgument leaves the stream as it was.
  void accept(double rate, const float* samples, int64_t count);
  // No more audio comes: silence behind it lets the last word out.
  void finish();
  // Decode what has arrived in every stream, in step where several have audio.
  static void decode(Stream* const* streams, int count);

  EventQueue& events() { return events_; }
  // The utterance under way, or else the last one, or an empty one, as a final event.
  const Event& result();
  // Seconds of audio that have been decoded.
  double time() const;

  const Recognizer& recognizer() const { return recognizer_; }
  const Counters& counters() const { return counters_; }
  const Budget& budget() const { return budget_; }
  void use_clock(const Clock& clock) { clock_ = clock; }
  size_t bytes() const;

 private:
  void list();
  void take(double rate, const float* samples, int64_t count);
  bool ready();
  void look();
  void begin();
  float voice_of(const float* block);
  void after();
  void say_words(const Partial& partial);
  double end_probability(const Partial& partial);
  void close();
  void end_utterance(const std::string& reason);
  void result_now(const std::string& reason, SpeechResult& out);
  void take_samples(const float* samples, int64_t count);
  static void read_round(Stream* const* streams, int count, int turn);
  int waiting() const;

  const Recognizer& recognizer_;
  const EndpointConfig endpoint_config_;
  const Decoder decoder_;
  const bool endpointing_, attention_;
  const int bins_, block_;  // block_: feature frames in one
  const double seconds_;    // of a block
  const double feature_rate_;  // samples a second behind the resampler
  std::unique_ptr<PersonalWords> words_;
  std::unique_ptr<Listed> listed_;     // the same for the model's attention,
  std::unique_ptr<ScaledBias> quieter_;  // beside which the search pays less

  double rate_ = 0;  // of the audio; 0: not known
  Resampler resampler_;
  Features features_;
  std::vector<float> samples_;  // scratch: at that rate

  std::vector<float> frames_;  // features not looked at, from first_frame_ on
  size_t first_frame_ = 0;
  std::vector<float> lead_;    // (lead_blocks + 1, block): the last blocks while nobody speaks,
  int lead_count_ = 0;         // then those that the encoder has to read now
  std::vector<char> heard_;    // ring: a frame of speech in each of the last blocks
  int heard_at_ = 0, heard_count_ = 0;
  int reading_ = 0;            // blocks of lead_ to be read now
  int64_t read_ = 0;           // blocks looked at
  int64_t real_ = -1;          // blocks with audio, once the input is finished
  double speech_ = 0;          // probability of speech in the last block

  Voice voice_;
  Endpointer endpointer_;
  EventQueue events_;
  Utterances utterances_;

  // The utterance under way.
  bool live_ = false;
  Search search_;
  EncoderState encoder_;
  int64_t first_ = 0;  // number of the block at which the search began
  int silence_ = 0;    // blocks since the voice detector heard speech
  std::string said_;   // the text that events have told
  int stable_ = 0;     // and the count of stable words
  std::vector<float> hidden_, acoustic_, end_memory_, end_scratch_;

  // Scratch of the encoder for as many streams as were ever read together.
  Threads team_;
  EncoderScratch scratch_;
  SpeechResult now_;
  Event shown_;

  Budget budget_;
  Clock clock_;
  double unpaid_ = 0;    // s: what looking at the block cost, not yet in the budget
  double accepted_ = 0;  // s in `accept` since the last reset
  Counters counters_;
};

}  // namespace slm
