// What is buffered, searched and said; see stream.h.
#include "stream.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/error.h"
#include "sums.h"

namespace slm {

namespace {

constexpr int kTogether = 16;    // streams read in step; more are read in turn
constexpr int64_t kPiece = 4096;  // samples that go through the resampler at once
constexpr double kReserved = 2;   // seconds of frames that may wait before memory grows

void copy_words(const std::string& text, const std::vector<Word>& words, SaidWords& out) {
  out.clear();
  for (const Word& word : words)
    out.add(text.data() + word.at, word.size, word.start, word.end, word.confidence);
}

}  // namespace

Stream::Stream(const Recognizer& recognizer, std::unique_ptr<PersonalWords> words, bool endpointing,
               bool attention)
    : recognizer_(recognizer),
      endpoint_config_(recognizer.settings().endpoint),
      decoder_(recognizer.net(), recognizer.pieces(), recognizer.settings().decode,
               recognizer.frame_seconds()),
      endpointing_(endpointing),
      attention_(attention && recognizer.settings().attention && recognizer.pointer()),
      bins_(recognizer.net().bins()),
      block_(recognizer.net().frames_per_step()),
      seconds_(recognizer.frame_seconds()),
      feature_rate_(recognizer.net().feature_config().sample_rate),
      words_(std::move(words)),
      features_(recognizer.net().feature_config()),
      voice_(recognizer.settings().voice, bins_),
      endpointer_(endpoint_config_, seconds_),
      utterances_(events_),
      search_(decoder_),
      encoder_(recognizer.net()),
      team_(int(recognizer.settings().threads)),
      scratch_(recognizer.net()),
      budget_(recognizer.settings().budget, recognizer.settings().decode.beam, seconds_) {
  const size_t block = size_t(block_) * bins_;
  frames_.reserve(size_t(kReserved / seconds_) * block);
  lead_.resize(size_t(recognizer.lead_blocks() + 1) * block);
  heard_.resize(size_t(std::max(recognizer.lead_blocks(), 1)));
  samples_.reserve(2 * kPiece);
  hidden_.resize(size_t(recognizer.net().hidden()));
  acoustic_.resize(size_t(recognizer.net().joint()));
  list();
  if (recognizer.end()) {
    end_memory_.resize(size_t(recognizer.end()->memory()));
    end_scratch_.resize(size_t(recognizer.end()->scratch()));
  }
}

// The words for the model's attention.
void Stream::list() {
  listed_.reset();
  quieter_.reset();
  if (!attention_ || !words_ || words_->spellings().empty()) return;
  const PointerWeights& weights = *recognizer_.pointer();
  listed_ = std::make_unique<Listed>(weights, words_->spellings());
  if (words_->bias())
    quieter_ = std::make_unique<ScaledBias>(*words_->bias(), weights.vocab, weights.search_scale);
}

void Stream::reset(std::unique_ptr<PersonalWords> words) {
  counters_.audio += time();
  search_.start();  // which forgets the words it was walking
  words_ = std::move(words);
  list();
  rate_ = 0;
  resampler_ = Resampler();
  features_.reset();
  frames_.clear();
  first_frame_ = 0;
  lead_count_ = heard_at_ = heard_count_ = reading_ = 0;
  read_ = 0;
  real_ = -1;
  speech_ = 0;
  voice_.reset();
  endpointer_.reset();
  events_.clear();
  utterances_.clear();
  live_ = false;
  shown_.result.clear();
  unpaid_ = accepted_ = 0;
  budget_.reset();
}

// Audio in ------------------------------------------------------------------------------------

void Stream::accept(double rate, const float* samples, int64_t count) {
  const double start = clock_.seconds();
  take(rate, samples, count);
  const double spent = clock_.seconds() - start;
  accepted_ += spent;
  counters_.seconds += spent;
}

void Stream::take(double rate, const float* samples, int64_t count) {
  require(real_ < 0, "the input of this stream is finished; reset it, or create another one.");
  require(count >= 0 && (samples || !count), "samples are NULL, or fewer than none.");
  require(rate_ == 0 || rate == rate_,
          "this stream's audio has another number of samples a second; reset it, or create another "
          "stream for audio of another rate.");
  for (int64_t i = 0; i < count; i++)
    require(std::isfinite(samples[i]),
            "the audio holds samples that are not finite (NaN or infinite); check what records it.");
  if (rate_ == 0) {
    resampler_ = Resampler(rate, feature_rate_);
    rate_ = rate;
  }
  for (int64_t first = 0; first < count; first += kPiece) {
    const int64_t part = std::min(kPiece, count - first);
    if (rate_ == feature_rate_) {
      take_samples(samples + first, part);
      continue;
    }
    samples_.clear();
    resampler_.accept(samples + first, part, samples_);
    take_samples(samples_.data(), int64_t(samples_.size()));
  }
}

void Stream::finish() {
  if (real_ >= 0) return;
  if (rate_ != 0 && rate_ != feature_rate_) {
    samples_.clear();
    resampler_.finish(samples_);
    take_samples(samples_.data(), int64_t(samples_.size()));
  }
  features_.finish(frames_);
  const size_t block = size_t(block_) * bins_;
  const size_t have = frames_.size() - first_frame_;
  const size_t whole = (have + block - 1) / block;
  frames_.resize(first_frame_ + (whole + size_t(recognizer_.tail_blocks())) * block, kSilence);
  real_ = read_ + int64_t(whole);
}

void Stream::take_samples(const float* samples, int64_t count) {
  if (first_frame_ && first_frame_ >= frames_.size() / 2) {
    frames_.erase(frames_.begin(), frames_.begin() + ptrdiff_t(first_frame_));
    first_frame_ = 0;
  }
  features_.accept(samples, count, frames_);
}

int Stream::waiting() const {
  return int((frames_.size() - first_frame_) / (size_t(block_) * bins_));
}

double Stream::time() const {
  const int64_t blocks = real_ < 0 ? read_ : std::min(read_, real_);
  return rounded(double(blocks) * seconds_, 6);
}

// Decoding ------------------------------------------------------------------------------------

void Stream::decode(Stream* const* streams, int count) {
  for (int i = 0; i < count; i++) {
    require(&streams[i]->recognizer_ == &streams[0]->recognizer_,
            "the streams of a call must be of one recogniser.");
    for (int j = 0; j < i; j++)
      require(streams[i] != streams[j], "a stream is in the call twice; give each of them once.");
  }
  for (int first = 0; first < count; first += kTogether) {
    Stream* waiting[kTogether];
    int left = std::min(kTogether, count - first);
    std::copy(streams + first, streams + first + left, waiting);
    for (;;) {
      int ready = 0;
      for (int i = 0; i < left; i++)
        if (waiting[i]->ready()) waiting[ready++] = waiting[i];
      left = ready;
      if (!left) break;
      int most = 0;
      for (int i = 0; i < left; i++) {
        const double start = waiting[i]->clock_.seconds();
        waiting[i]->look();
        most = std::max(most, waiting[i]->reading_);
        waiting[i]->unpaid_ = waiting[i]->clock_.seconds() - start;
        waiting[i]->counters_.seconds += waiting[i]->unpaid_;
      }
      for (int turn = 0; turn < most; turn++) read_round(waiting, left, turn);
    }
  }
}

// The next block of every stream that wants one read, in one call of the encoder.
void Stream::read_round(Stream* const* streams, int count, int turn) {
  Stream* reading[kTogether];
  EncoderState* states[kTogether];
  const float* frames[kTogether];
  float *hidden[kTogether], *acoustic[kTogether];
  int n = 0;
  for (int i = 0; i < count; i++) {
    Stream& s = *streams[i];
    if (turn >= s.reading_) continue;
    reading[n] = &s;
    states[n] = &s.encoder_;
    frames[n] = s.lead_.data() + size_t(turn) * s.block_ * s.bins_;
    hidden[n] = s.hidden_.data();
    acoustic[n] = s.acoustic_.data();
    n++;
  }
  Stream& first = *reading[0];
  const int64_t macs = mac_count().stored;
  const double start = first.clock_.seconds();
  first.recognizer_.net().encode(states, frames, n, hidden, acoustic, first.scratch_, first.team_);
  const double shared = (first.clock_.seconds() - start) / n;
  const int64_t shared_macs = (mac_count().stored - macs) / n;
  for (int i = 0; i < n; i++) {
    Stream& s = *reading[i];
    const double begun = s.clock_.seconds();
    const int64_t before = mac_count().stored;
    if (s.budget_.limited()) s.search_.set_beam(s.budget_.beam());
    s.search_.advance(s.acoustic_.data());
    s.counters_.encoded++;
    if (turn + 1 == s.reading_) s.after();
    s.counters_.macs += shared_macs + mac_count().stored - before;
    const double spent = shared + s.clock_.seconds() - begun;
    s.counters_.seconds += spent;
    // Features are charged block by block, however much audio was handed over at once. The blocks in
    // front of a start are read together; they were not paid for when they came.
    const double features = s.accepted_ / double(s.read_ + s.waiting());
    s.budget_.spent(spent + features + s.unpaid_, s.waiting());
    s.unpaid_ = 0;
  }
}

// Whether there is a block to look at; at the end the stream is also closed here.
bool Stream::ready() {
  if (waiting() > 0) return true;
  if (real_ >= 0) close();
  return false;
}

// Look at the next block and find what the encoder has to read now.
void Stream::look() {
  const size_t size = size_t(block_) * bins_;
  const float* block = frames_.data() + first_frame_;
  first_frame_ += size;
  read_++;
  counters_.blocks++;
  speech_ = voice_of(block);
  reading_ = 0;
  if (live_) {
    std::copy(block, block + size, lead_.data());
    reading_ = 1;
    return;
  }
  const bool heard = std::find(heard_.begin(), heard_.begin() + heard_count_, 1) !=
                     heard_.begin() + heard_count_;
  const int most = recognizer_.lead_blocks();
  const bool late = read_ - 1 == real_ && heard;
  if (!late && lead_count_ == most && most > 0) {
    std::memmove(lead_.data(), lead_.data() + size, size_t(most - 1) * size * sizeof(float));
    lead_count_--;
  }
  if (late || most > 0) {
    std::copy(block, block + size, lead_.data() + size_t(lead_count_) * size);
    lead_count_++;
  }
  if (late) {
    // Speech too short to be sure of, but nothing more comes: what was kept is decoded.
    utterances_.start(time(), nullptr);
    begin();
  } else if (!endpointing_) {
    utterances_.start(time(), nullptr);
    begin();
  } else {
    Observation seen;
    seen.time = time();
    seen.speech_probability = speech_;
    if (endpointer_.step(seen) != Decision::start) return;
    const double began = endpointer_.began();
    utterances_.start(time(), &began);
    begin();
  }
}

// A new search of the last blocks.
void Stream::begin() {
  reading_ = lead_count_;
  first_ = read_ - lead_count_;
  lead_count_ = heard_at_ = heard_count_ = 0;
  Bias* const bias = quieter_ ? quieter_.get() : words_ ? words_->bias() : nullptr;
  search_.start(bias, int(first_), listed_.get());
  encoder_.reset();
  std::fill(end_memory_.begin(), end_memory_.end(), 0.0f);
  silence_ = stable_ = 0;
  said_.clear();
  live_ = true;
}

float Stream::voice_of(const float* block) {
  if (live_ && real_ >= 0 && read_ > real_) return 0;  // our own padding
  float heard[256], most = 0;
  const int frames = std::min(block_, 256);
  for (int t = 0; t < frames; t++) {
    heard[t] = voice_.step(block + size_t(t) * bins_);
    most = std::max(most, heard[t]);
  }
  const int size = int(heard_.size());
  heard_[size_t(heard_at_)] = most >= float(endpoint_config_.speech_threshold);
  heard_at_ = (heard_at_ + 1) % size;
  heard_count_ = std::min(heard_count_ + 1, size);
  return pairwise_sum(heard, frames) / float(frames);
}

// The search has read the block: say what is new and ask the end-pointers.
void Stream::after() {
  const Partial& partial = search_.partial();
  say_words(partial);
  const bool padding = real_ >= 0 && read_ > real_;
  if (!endpointing_ || padding) {  // in our own padding the end of the input decides, at `close`
    if (!endpointing_ && search_.room() == 0) end_utterance("memory limit");
    return;
  }
  Observation seen;
  seen.time = time();
  seen.speech_probability = speech_;
  seen.pause_frames = partial.pause_frames;
  seen.blank_probability = partial.blank_probability;
  seen.n_tokens = int(partial.tokens.size());
  seen.tokens = partial.tokens.data();
  static const int32_t none = 0;
  if (!seen.tokens) seen.tokens = &none;
  seen.end_probability = end_probability(partial);
  const bool speculate = budget_.full();
  switch (endpointer_.step(seen, speculate)) {
    case Decision::speculative: {
      SpeechResult& result = utterances_.speculative(time()).result;
      result_now(endpointer_.reason(), result);
      utterances_.speculated(result.text);
      break;
    }
    case Decision::reset: utterances_.reset(time()); break;
    case Decision::final: end_utterance(endpointer_.reason()); break;
    default:
      if (search_.room() == 0) {
        endpointer_.finish();
        end_utterance("memory limit");
      }
  }
}

void Stream::say_words(const Partial& partial) {
  const int stable = std::max(partial.stable_words, stable_);
  const double now = time();
  if (partial.text != said_) {
    Event& event = events_.push(EventKind::partial, now, utterances_.utterance());
    event.text = partial.text;
    copy_words(partial.text, partial.words, event.words);
    event.stable = stable;
    said_ = partial.text;
  }
  if (stable > stable_) {
    Event& event = events_.push(EventKind::stable_words, now, utterances_.utterance());
    for (int i = stable_; i < std::min(stable, int(partial.words.size())); i++) {
      const Word& word = partial.words[size_t(i)];
      event.words.add(partial.text.data() + word.at, word.size, word.start, word.end,
                      word.confidence);
    }
    stable_ = stable;
  }
}

// What the end head thinks of the block just read; kAbsent where the model has none.
double Stream::end_probability(const Partial& partial) {
  silence_ = speech_ >= endpoint_config_.speech_threshold ? 0 : silence_ + 1;
  const EndHead* end = recognizer_.end();
  if (!end) return kAbsent;
  float pauses[kPauseFeatures];
  pause_vector(partial.blank_frames, partial.pause_frames, partial.blank_probability, silence_,
               int(partial.tokens.size()), seconds_, pauses);
  return double(end->step(hidden_.data(), search_.label(), pauses, end_memory_.data(),
                          end_scratch_.data()));
}

// The input and its padding have been read.
void Stream::close() {
  if (!live_) return;
  endpointer_.finish();
  end_utterance("input finished");
}

void Stream::end_utterance(const std::string& reason) {
  result_now(reason, now_);
  shown_.utterance = utterances_.utterance();
  shown_.time = time();
  shown_.result = now_;
  utterances_.final(time(), now_);
  live_ = false;
  lead_count_ = heard_at_ = heard_count_ = 0;
}

// The result as it stands; the search goes on undisturbed.
void Stream::result_now(const std::string& reason, SpeechResult& out) {
  const DecodeResult found = search_.finish();
  const Hypothesis& best = found.nbest.front();
  out.clear();
  out.text = best.text;
  out.reason = reason;
  copy_words(best.text, best.words, out.words);
  out.nbest_count = int(found.nbest.size());
  if (out.nbest.size() < found.nbest.size()) out.nbest.resize(found.nbest.size());
  for (size_t i = 0; i < found.nbest.size(); i++) {
    out.nbest[i].text = found.nbest[i].text;
    out.nbest[i].acoustic = found.nbest[i].log_prob;
    out.nbest[i].bias = found.nbest[i].bias;
  }
  out.start = rounded(double(first_) * seconds_, 6);
  out.end = time();
  if (!found.has_lattice) return;
  out.lattice = word_lattice(found.lattice);
  out.has_lattice = true;
}

const Event& Stream::result() {
  if (live_) {
    result_now("not finished", shown_.result);
    shown_.utterance = utterances_.utterance();
    shown_.time = time();
  }
  shown_.kind = EventKind::final;
  return shown_;
}

size_t Stream::bytes() const {
  return sizeof *this + search_.bytes() + size_t(encoder_.bytes() + scratch_.bytes()) +
         features_.bytes() + resampler_.bytes() + (listed_ ? listed_->bytes() : 0) +
         (frames_.capacity() + lead_.capacity() + samples_.capacity()) * sizeof(float);
}

}  // namespace slm
