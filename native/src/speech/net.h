// The recogniser's networks: encoder, prediction network, joint network. Log-mel frames go in, hidden
// and acoustic vectors come out every few frames, and the log-probabilities of the next symbol.
//
// What they compute is defined in src/solomonic/speech: encoder.py, predictor.py and model.py.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "features.h"
#include "label_model.h"
#include "runtime/context.h"

namespace slm {

class PackFile;
class SpeechNet;

// Sizes and letters, as TransducerConfig names them.
struct NetConfig {
  int vocab = 0, stack = 1, reduction = 1, predictor_size = 0, predictor_layers = 1,
      predictor_context = 2, joint = 0;
  bool lstm = true;  // the prediction network; else it is stateless
  std::string front, pattern, short_conv_layers;
  slm_config layers = {};  // of both stacks; its texts are not used
  FeatureConfig features;
};

// What the encoder remembers of one stream.
class EncoderState {
 public:
  explicit EncoderState(const SpeechNet& net);
  void reset();  // nothing is allocated
  int64_t bytes() const;
  // All of it as so many bytes.
  size_t saved_bytes() const;
  void save(void* to) const;
  void load(const void* from);

 private:
  friend class SpeechNet;
  std::optional<StackState> front_;
  StackState back_;
};

// Scratch for reading `streams` streams together; it grows when more are read.
class EncoderScratch {
 public:
  explicit EncoderScratch(const SpeechNet& net, int streams = 1);
  int64_t bytes() const;

 private:
  friend class SpeechNet;
  std::optional<Workspace> front_;
  Workspace back_;
  Operand input_;
  Rows frames_, embedded_, hidden_, acoustic_;
  Segments front_segments_, back_segments_;
};

// Read-only once made, and shared by any threads. A stream's results do not depend on which others
// share a call: sums of integers have no order, and with weights in float32 or bfloat16 streams and
// hypotheses are read one after the other.
class SpeechNet : public LabelModel {
 public:
  // Weights lie in the file where it has them packed: it must outlive the net.
  explicit SpeechNet(const PackFile& file);
  // To be filled by `set`, with the names of the Python class Transducer, and finished.
  SpeechNet(const NetConfig& config, slm_weights weights);
  void set(const std::string& name, const float* values, int64_t count);
  void finish();

  const NetConfig& config() const { return config_; }
  const FeatureConfig& feature_config() const { return config_.features; }
  int bins() const { return config_.features.bins; }
  int frames_per_step() const { return config_.stack * config_.reduction; }
  int hidden() const { return config_.layers.hidden_size; }
  int joint() const override { return config_.joint; }
  int vocab() const override { return config_.vocab; }
  // Of weights and tables, without what lies in a file's memory.
  int64_t bytes() const;

  // Multiplications with stored weights: an encoder frame, a label, a row of log-probabilities.
  int64_t macs_per_frame() const;
  int64_t macs_per_label() const;
  int64_t macs_per_row() const;

  // One encoder frame of each of n streams: frames[i] (frames_per_step, bins) -> hidden[i] and
  // acoustic[i]. No two states are the same.
  void encode(EncoderState* const* states, const float* const* frames, int n, float* const* hidden,
              float* const* acoustic, EncoderScratch& scratch, Threads& team) const;
  void encode(EncoderState& state, const float* frames, float* hidden, float* acoustic,
              EncoderScratch& scratch, Threads& team) const {
    EncoderState* one = &state;
    encode(&one, &frames, 1, &hidden, &acoustic, scratch, team);
  }
  // Acoustic vectors (n, joint) of hidden vectors (n, hidden) that something else has changed.
  void project(const float* hidden, int n, float* acoustic) const;

  size_t state_bytes() const override;
  void start(void* state, float* label) const override;
  void step(const void* from, int token, void* to, float* label) const override;
  void steps(const void* const* from, const int* tokens, int n, void* const* to,
             float* const* labels) const override;
  void log_probs(const float* acoustic, const float* const* labels, int n,
                 float* out) const override;

 private:
  friend class EncoderState;
  friend class EncoderScratch;
  struct LabelScratch;
  static LabelScratch& label_scratch();

  void build(Parameters& from);
  template <class Body>
  void each_matrix(const Body& body) const;
  void encode_together(EncoderState* const* states, const float* const* frames, int n,
                       float* const* hidden, float* const* acoustic, EncoderScratch& scratch,
                       Threads& team) const;
  void steps_together(const void* const* from, const int* tokens, int n, void* const* to,
                      float* const* labels) const;
  void read_lstm(const void* const* from, const int* tokens, int n, void* const* to) const;
  void mix_labels(const void* state, float* out) const;
  void label_vectors(int n, float* const* labels) const;
  void rows_of_log_probs(const float* acoustic, const float* const* labels, int n,
                         float* out) const;

  NetConfig config_;
  std::optional<GivenParameters> given_;
  bool whole_ = false;  // rows may be multiplied together: all sums are of integers
  std::optional<Stack> front_;
  Stack back_;
  Floats mean_, deviation_, norm_;
  Matrix embed_, join_, to_joint_;
  Floats to_joint_bias_;
  Matrix labels_, output_, symbols_;  // embedding of labels, to label vectors, joint network
  std::vector<Lstm> lstms_;
  Floats mix_, output_bias_, symbols_bias_;  // mix_: (context, size)
};

}  // namespace slm
