// One request's personal words, from plain text to the automaton of the search. The twin of
// solomonic/speech/biasing/request.py, with its rules, limits and sentences.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bias.h"
#include "pieces.h"

namespace slm {

struct PersonalConfig {
  double boost = 1.5;       // nats per piece of a phrase that has no weight of its own
  int segmentations = 4;    // in how many ways a phrase may be cut into pieces
  bool possessives = false;  // whether "ann" is also "ann's"
  bool strict = true;       // whether a phrase that cannot be used is an error, or is listed
};

struct DroppedPhrase {
  std::string text, reason;
};

struct SpelledPhrase {
  std::string text;
  double worth;
  std::vector<Spelling> segmentations;  // the likeliest first
};

class PersonalWords {
 public:
  typedef std::vector<std::pair<std::string, std::vector<std::string>>> Classes;
  // `phrases`: one each, "kettle" or "kettle :2.5"; empty ones and those that begin with # are left
  // out. `classes`: entries by name; `carriers`: sentences that open them, "call @contact".
  // Raises BadArgument: what `Biasing` in Python raises, in its words.
  PersonalWords(const WordPieces& pieces, const std::vector<std::string>& phrases,
                const Classes& classes, const std::vector<std::string>& carriers,
                const PersonalConfig& config = {});

  Bias* bias() { return bias_.get(); }  // null: there is nothing to favour
  // The likeliest spelling of every phrase and entry, each once, for the model's attention.
  const std::vector<Spelling>& spellings() const { return spellings_; }
  const std::vector<DroppedPhrase>& dropped() const { return dropped_; }
  const std::vector<SpelledPhrase>& phrases() const { return phrases_; }

 private:
  std::unique_ptr<Bias> bias_;
  std::vector<DroppedPhrase> dropped_;
  std::vector<SpelledPhrase> phrases_;
  std::vector<Spelling> spellings_;
};

// Text as it is spoken, as far as this side does it: lower case, accents off Latin letters, small
// whole numbers in words, punctuation away. What text.spoken.normalise does with clock times,
// ordinals, decimals and other scripts is left as it is, and then no vocabulary can spell it.
std::string spoken_text(const std::string& text);

}  // namespace slm
