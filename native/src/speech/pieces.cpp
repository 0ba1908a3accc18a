#include "pieces.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <queue>
#include <set>

#include "runtime/error.h"

namespace slm {

double round6(double value) {
  char text[512];
  std::snprintf(text, sizeof text, "%.6f", value);
  return std::strtod(text, nullptr);
}

WordPieces::WordPieces(std::vector<std::string> texts, std::vector<float> scores,
                       std::vector<int> types)
    : texts_(std::move(texts)), scores_(std::move(scores)), types_(std::move(types)) {
  require(texts_.size() >= 2, "a vocabulary has a blank and at least one piece.");
  if (types_.empty()) {
    types_.assign(texts_.size(), kNormal);
    types_[0] = kUnknown;
  }
  require(scores_.size() == texts_.size() && types_.size() == texts_.size(),
          "a vocabulary has a score and a type for every piece.");
  for (const std::string& text : texts_) {
    const bool starts = text.compare(0, kWordStart.size(), kWordStart) == 0;
    starts_.push_back(starts);
    std::string letters;
    for (size_t at = 0; at < text.size();) {  // a mark may stand anywhere in a piece
      if (text.compare(at, kWordStart.size(), kWordStart) == 0)
        at += kWordStart.size();
      else
        letters += text[at++];
    }
    letters_.push_back(letters);
  }
}

bool WordPieces::knows(const std::string& character) const {
  return character != kWordStart &&
         std::find(texts_.begin(), texts_.end(), character) != texts_.end();
}

void WordPieces::spell(const int* tokens, size_t count, std::string& text) const {
  const size_t begin = text.size();
  bool space = false;
  for (size_t i = 0; i < count; i++) {
    const std::string& piece = texts_[size_t(tokens[i])];
    for (size_t at = 0; at < piece.size();) {
      if (piece.compare(at, kWordStart.size(), kWordStart) == 0) {
        space = true;
        at += kWordStart.size();
        continue;
      }
      if (space && text.size() > begin) text += ' ';
      space = false;
      text += piece[at++];
    }
  }
}

void WordPieces::words(const int* tokens, const int* frames, const double* log_probs, size_t count,
                       double frame_seconds, std::string& text, std::vector<Word>& words) const {
  text.clear();
  words.clear();
  for (size_t first = 0, last; first < count; first = last) {
    size_t size = letters_[size_t(tokens[first])].size();
    double least = log_probs[first];
    for (last = first + 1; last < count && !starts_[size_t(tokens[last])]; last++) {
      size += letters_[size_t(tokens[last])].size();
      if (log_probs[last] < least) least = log_probs[last];
    }
    if (!size) continue;  // a lone word mark spells nothing
    if (!words.empty()) text += ' ';
    const size_t at = text.size();
    for (size_t i = first; i < last; i++) text += letters_[size_t(tokens[i])];
    words.push_back(Word{at, size, round6(double(frames[first]) * frame_seconds),
                         round6(double(frames[last - 1] + 1) * frame_seconds),
                         std::exp(std::min(0.0, least))});
  }
}

int WordPieces::count_words(const int* tokens, size_t count) const {
  int words = 0;
  size_t size = 0;
  for (size_t i = 0; i < count; i++) {
    if (i && starts_[size_t(tokens[i])]) {
      words += size > 0;
      size = 0;
    }
    size += letters_[size_t(tokens[i])].size();
  }
  return words + (size > 0);
}

namespace {

constexpr float kUnknownPenalty = 10.0f;

// Spaces become word marks, one between words and one in front; none for an empty text.
std::string normalised(const std::string& text) {
  std::string made;
  bool space = true;
  for (const char c : text) {
    if (c == ' ') {
      space = true;
      continue;
    }
    if (space) made += kWordStart;
    space = false;
    made += c;
  }
  return made;
}

}  // namespace

Segmenter::Segmenter(const WordPieces& pieces) : pieces_(pieces), class_(256, -1) {
  const auto searched = [&](int id) {
    const int type = pieces.type(id);
    return type == WordPieces::kNormal || type == WordPieces::kUserDefined;
  };
  float least = INFINITY, most = -INFINITY;
  for (int id = 0; id < pieces.size(); id++) {
    if (!searched(id)) continue;
    for (const char c : pieces.text(id))
      if (class_[size_t(c & 0xFF)] < 0) class_[size_t(c & 0xFF)] = classes_++;
    if (pieces.type(id) != WordPieces::kNormal) continue;
    least = std::min(least, pieces.score(id));
    most = std::max(most, pieces.score(id));
  }
  unknown_score_ = least - kUnknownPenalty;
  best_score_ = most;
  next_.assign(size_t(classes_), 0);
  id_.assign(1, -1);
  for (int id = 0; id < pieces.size(); id++) {
    if (!searched(id)) continue;
    size_t node = 0;
    for (const char c : pieces.text(id)) {
      const size_t edge = node * size_t(classes_) + size_t(class_[size_t(c & 0xFF)]);
      if (!next_[edge]) {
        next_[edge] = int(id_.size());
        id_.push_back(-1);
        next_.resize(next_.size() + size_t(classes_), 0);
      }
      node = size_t(next_[edge]);
    }
    id_[node] = id;
  }
}

// The pieces that begin at byte `at`, the shortest first.
void Segmenter::matches(const std::string& text, size_t at, std::vector<Found>& out) const {
  out.clear();
  size_t node = 0;
  for (size_t i = at; i < text.size(); i++) {
    const int column = class_[size_t(text[i] & 0xFF)];
    if (column < 0) return;
    node = size_t(next_[node * size_t(classes_) + size_t(column)]);
    if (!node) return;
    if (id_[node] >= 0) out.push_back(Found{id_[node], int(i + 1 - at)});
  }
}

std::string Segmenter::unknown(const std::string& text) const {
  std::set<std::string> found;
  for (size_t at = 0; at < text.size();) {
    const std::string c = text.substr(at, character_size(text[at]));
    at += c.size();
    if (c != " " && !pieces_.knows(c)) found.insert(c);
  }
  std::string shown;
  int count = 0;
  for (const std::string& c : found)
    if (count++ < 5) shown += (shown.empty() ? "'" : ", '") + c + "'";
  return shown;
}

// Unigram::Model::EncodeOptimized: scores are floats, sums of two are compared as doubles.
std::vector<int> Segmenter::viterbi(const std::string& text) const {
  struct Best {
    int id = -1;
    float score = 0;
    int from = -1;
  };
  std::vector<Best> best(text.size() + 1);
  std::vector<Found> found;
  for (size_t at = 0; at < text.size();) {
    const float here = best[at].score;
    const size_t one = std::min(character_size(text[at]), text.size() - at);
    bool single = false;
    matches(text, at, found);
    for (const Found& f : found) {
      Best& there = best[at + size_t(f.size)];
      const double score = pieces_.type(f.id) == WordPieces::kUserDefined
                               ? double(float(f.size) * best_score_) - 0.1
                               : double(pieces_.score(f.id));
      const double total = score + double(here);
      if (there.from < 0 || total > double(there.score))
        there = Best{f.id, float(total), int(at)};
      single |= size_t(f.size) == one;
    }
    if (!single) {
      Best& there = best[at + one];
      const float total = unknown_score_ + here;
      if (there.from < 0 || total > there.score) there = Best{0, total, int(at)};
    }
    at += one;
  }
  std::vector<int> ids;
  for (size_t at = text.size(); at > 0; at = size_t(best[at].from)) ids.push_back(best[at].id);
  std::reverse(ids.begin(), ids.end());
  return ids;
}

std::vector<int> Segmenter::encode(const std::string& text) const {
  const std::string missing = unknown(text);
  require(missing.empty(), "the word pieces have no " + missing + " (in '" + text.substr(0, 60) +
                               "'); write it in lower case as it is spoken.");
  return viterbi(normalised(text));
}

float Segmenter::score_of(int id, size_t size) const {
  if (id < 0) return unknown_score_;
  if (pieces_.type(id) == WordPieces::kUserDefined)
    return float(double(float(size) * best_score_) - 0.1);
  return pieces_.score(id);
}

// Lattice::NBest: A* from the end, the score of the best way from the beginning as the estimate.
// Of equal estimates the heap decides, so this one is used as that library uses it.
std::vector<std::vector<int>> Segmenter::encode_nbest(const std::string& text, int n) const {
  require(n >= 1, "ask for at least 1 segmentation.");
  const std::vector<int> best = encode(text);
  std::vector<std::vector<int>> made{best};
  if (best.empty() || n == 1) return made;
  const std::string sentence = normalised(text);
  struct Node {
    int id, from, to;
    float score, reached;
  };
  std::vector<Node> nodes{{-1, 0, 0, 0, 0}};
  std::vector<std::vector<int>> ending(sentence.size() + 1);
  ending[0].push_back(0);
  std::vector<Found> found;
  const auto arrive = [&](Node node) {  // the best way there, from the beginning
    bool first = true;
    float most = 0;
    for (const int before : ending[size_t(node.from)]) {
      const float score = nodes[size_t(before)].reached + node.score;
      if (first || score > most) most = score;
      first = false;
    }
    node.reached = most;
    return node;
  };
  for (size_t at = 0; at < sentence.size();) {
    const size_t one = std::min(character_size(sentence[at]), sentence.size() - at);
    bool single = false;
    matches(sentence, at, found);
    for (const Found& f : found) {
      const int to = int(at) + f.size;
      ending[size_t(to)].push_back(int(nodes.size()));
      nodes.push_back(arrive({f.id, int(at), to, score_of(f.id, size_t(f.size)), 0}));
      single |= size_t(f.size) == one;
    }
    if (!single) {
      ending[at + one].push_back(int(nodes.size()));
      nodes.push_back(arrive({0, int(at), int(at + one), unknown_score_, 0}));
    }
    at += one;
  }
  const int end = int(nodes.size());
  nodes.push_back(arrive({-1, int(sentence.size()), int(sentence.size()), 0, 0}));
  struct Way {
    int node, next;
    float estimate, behind;
  };
  std::vector<Way> ways{{end, -1, nodes[size_t(end)].reached, 0}};
  const auto worse = [&](int a, int b) {
    return ways[size_t(a)].estimate < ways[size_t(b)].estimate;
  };
  std::priority_queue<int, std::vector<int>, decltype(worse)> agenda(worse);
  agenda.push(0);
  int results = 0;
  while (!agenda.empty()) {
    const int top = agenda.top();
    agenda.pop();
    const Way way = ways[size_t(top)];
    if (way.node == 0) {
      std::vector<int> ids;
      for (int at = way.next; ways[size_t(at)].next >= 0; at = ways[size_t(at)].next)
        ids.push_back(nodes[size_t(ways[size_t(at)].node)].id);
      if (std::find(made.begin(), made.end(), ids) == made.end()) made.push_back(ids);
      if (++results == n) break;
      continue;
    }
    for (const int before : ending[size_t(nodes[size_t(way.node)].from)]) {
      const Node& node = nodes[size_t(before)];
      ways.push_back({before, top, node.reached + way.behind, node.score + way.behind});
      agenda.push(int(ways.size()) - 1);
    }
  }
  if (int(made.size()) > n) made.resize(size_t(n));
  made.erase(std::remove_if(made.begin(), made.end(),
                            [](const std::vector<int>& ids) {
                              return std::find(ids.begin(), ids.end(), 0) != ids.end();
                            }),
             made.end());
  return made;
}

}  // namespace slm
