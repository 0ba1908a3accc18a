// The vocabulary: word pieces of a SentencePiece unigram model with the blank at id 0. The twin of
// solomonic/text/pieces.py and of what it asks of the `sentencepiece` library.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace slm {

const std::string kWordStart = "\xE2\x96\x81";  // "▁", in front of a piece that starts a word

// A word of a text: where it stands in it (bytes), and when it was said.
struct Word {
  size_t at, size;
  double start, end;  // s of audio
  double confidence;  // 0 to 1
};

class WordPieces {
 public:
  // SentencePiece's numbers of the types of pieces.
  enum Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  // All in the order of ids, the blank first; without types every piece but the blank is normal.
  WordPieces(std::vector<std::string> texts, std::vector<float> scores,
             std::vector<int> types = {});

  int size() const { return int(texts_.size()); }
  const std::string& text(int id) const { return texts_[size_t(id)]; }
  const std::vector<std::string>& texts() const { return texts_; }
  float score(int id) const { return scores_[size_t(id)]; }
  int type(int id) const { return types_[size_t(id)]; }
  const std::vector<char>& starts() const { return starts_; }  // (V): does it start a word?
  bool knows(const std::string& character) const;  // one character of UTF-8 that is a piece
  // The letters of a piece, without the word mark.
  const std::string& letters(int id) const { return letters_[size_t(id)]; }

  // What `tokens` say: words with a blank between them, appended to `text`.
  void spell(const int* tokens, size_t count, std::string& text) const;
  // The words of `tokens` (no blanks); each as certain as the least certain of its pieces. `text`
  // is what they say, and is replaced, as `words` is.
  void words(const int* tokens, const int* frames, const double* log_probs, size_t count,
             double frame_seconds, std::string& text, std::vector<Word>& words) const;
  // How many words the first `count` tokens make.
  int count_words(const int* tokens, size_t count) const;

 private:
  std::vector<std::string> texts_, letters_;
  std::vector<float> scores_;
  std::vector<int> types_;
  std::vector<char> starts_;
};

// Cuts text into pieces as SentencePiece's unigram model does; made for compiling personal words,
// and gone afterwards. Text is not normalised beyond its spaces (the "identity" rule).
class Segmenter {
 public:
  explicit Segmenter(const WordPieces& pieces);
  // The likeliest segmentation; of an empty text, none.
  // Raises BadArgument: a character is not in the vocabulary.
  std::vector<int> encode(const std::string& text) const;
  // Up to n different segmentations, the likeliest first.
  std::vector<std::vector<int>> encode_nbest(const std::string& text, int n) const;
  // The first characters of `text` that the vocabulary does not have, quoted, in order; or "".
  std::string unknown(const std::string& text) const;

 private:
  struct Found {
    int id, size;
  };
  void matches(const std::string& text, size_t at, std::vector<Found>& out) const;
  std::vector<int> viterbi(const std::string& normalised) const;
  float score_of(int id, size_t size) const;

  const WordPieces& pieces_;
  std::vector<int> class_;  // (256): column of a byte, or -1
  int classes_ = 0;
  std::vector<int> next_;   // (nodes, classes): node, 0 for none
  std::vector<int> id_;     // (nodes): piece that ends here, or -1
  float unknown_score_, best_score_;
};

// Python's round(value, 6), to the last bit.
double round6(double value);
// Bytes of the character of UTF-8 that begins with `first`.
inline size_t character_size(char first) {
  return size_t("\1\1\1\1\1\1\1\1\1\1\1\1\2\2\3\4"[(first & 0xFF) >> 4]);
}

}  // namespace slm
