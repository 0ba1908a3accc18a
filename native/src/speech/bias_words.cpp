#include "bias_words.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <unordered_map>

#include "runtime/error.h"

namespace slm {

namespace {

constexpr size_t kMostPhrases = 5000, kLongestLine = 1000, kMostWords = 8, kMostSentences = 1000;
constexpr double kLargestBoost = 20.0;
constexpr int kFewestCharacters = 3, kFewestOfClass = 2, kMostDepth = 20, kShown = 5;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string strip(const std::string& text) {
  size_t first = 0, last = text.size();
  while (first < last && is_space(text[first])) first++;
  while (last > first && is_space(text[last - 1])) last--;
  return text.substr(first, last - first);
}

// Lower case of ASCII letters, one space between words.
std::string plain(const std::string& text) {
  std::string made;
  for (const char c : strip(text)) {
    if (is_space(c)) {
      if (made.back() != ' ') made += ' ';
      continue;
    }
    made += c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
  }
  return made;
}

size_t characters(const std::string& text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string shortened(const std::string& text) {
  if (characters(text) <= 40) return text;
  size_t at = 0;
  for (int n = 0; n < 37; n++) at += character_size(text[at]);
  return text.substr(0, at) + "...";
}

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

struct Phrase {
  std::string text;
  double boost;  // 0: the list's
};

// "[-+]?\d+(\.\d*)?" and nothing else.
bool is_number(const std::string& text) {
  size_t at = !text.empty() && (text[0] == '-' || text[0] == '+');
  const size_t first = at;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') at++;
  if (at == first) return false;
  if (at < text.size() && text[at] == '.') at++;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') at++;
  return at == text.size();
}

// "text :2.5" -> text and 2.5; false if it has no weight.
bool weighted(const std::string& text, std::string& head, double& weight) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0 || !is_space(text[colon - 1])) return false;
  const std::string number = strip(text.substr(colon + 1)), before = strip(text.substr(0, colon));
  if (before.empty() || !is_number(number) || is_space(text.back())) return false;
  head = before;
  weight = std::strtod(number.c_str(), nullptr);
  return true;
}

std::vector<Phrase> read_phrases(const std::vector<std::string>& lines) {
  std::vector<Phrase> found;
  size_t number = 0;
  for (const std::string& line : lines) {
    const std::string place = "phrase " + std::to_string(++number);
    require(characters(line) <= kLongestLine,
            place + " has " + std::to_string(characters(line)) +
                " characters; give one phrase a line, at most 1,000 characters.");
    std::string text = strip(line);
    if (text.empty() || text[0] == '#') continue;
    double boost = 0;
    bool given = false;
    const size_t tab = text.rfind('\t');
    if (tab != std::string::npos && !strip(text.substr(0, tab)).empty()) {
      const std::string weight = strip(text.substr(tab + 1));
      char* end = nullptr;
      boost = std::strtod(weight.c_str(), &end);
      require(!weight.empty() && !*end && std::isfinite(boost),
              place + ": '" + shortened(weight) +
                  "' after the tab is no number; write the phrase, a tab and its boost in nats per "
                  "piece, such as 2.5.");
      text = strip(text.substr(0, tab));
      given = true;
    } else {
      given = weighted(text, text, boost);
    }
    require(!given || (boost > 0 && boost <= kLargestBoost),
            place + ": the boost " + number_text(boost) + " of '" + shortened(text) +
                "' is not above 0 and at most 20; 1 to 3 nats per piece are usual.");
    found.push_back(Phrase{text, given ? boost : 0.0});
    require(found.size() <= kMostPhrases,
            "there are more than 5,000 phrases; give those that matter for this request, or put "
            "names into a class that a carrier such as 'call @contact' opens.");
  }
  return found;
}

// Why a phrase cannot be used, or "".
std::string unusable(const std::string& text, const Segmenter& segmenter, int fewest) {
  const std::string unknown = segmenter.unknown(text);
  if (!unknown.empty()) {
    const bool digits = unknown.find_first_of("0123456789") != std::string::npos;
    return "has " + unknown + ", which the vocabulary cannot spell" +
           (digits ? "; write numbers in words" : "");
  }
  const size_t spaces = size_t(std::count(text.begin(), text.end(), ' '));
  if (characters(text) - spaces < size_t(fewest))
    return "has fewer than " + std::to_string(fewest) + " letters and would be heard everywhere";
  if (spaces + 1 > kMostWords)
    return "has " + std::to_string(spaces + 1) + " words, more than 8; give the part that is hard "
           "to hear";
  return "";
}

std::vector<SpelledPhrase> spell(const std::vector<Phrase>& phrases, const Segmenter& segmenter,
                                 const PersonalConfig& config, int fewest, const char* what,
                                 std::vector<DroppedPhrase>& all_dropped) {
  std::vector<std::pair<std::string, double>> boosts;  // each text once, by first use
  std::unordered_map<std::string, size_t> known;
  std::vector<DroppedPhrase> dropped;
  for (const Phrase& phrase : phrases) {
    std::string text = plain(phrase.text);
    if (!segmenter.unknown(text).empty()) text = spoken_text(text);
    const std::string reason = unusable(text, segmenter, fewest);
    if (!reason.empty()) {
      dropped.push_back({phrase.text, reason});
      continue;
    }
    std::vector<std::string> forms{text};
    if (config.possessives) forms.push_back(text + (text.back() == 's' ? "'" : "'s"));
    for (const std::string& form : forms) {
      const double boost = phrase.boost > 0 ? phrase.boost : config.boost;
      const auto made = known.emplace(form, boosts.size());
      if (made.second)
        boosts.push_back({form, boost});
      else
        boosts[made.first->second].second = std::max(boosts[made.first->second].second, boost);
    }
  }
  std::vector<SpelledPhrase> spelled;
  for (const auto& entry : boosts) {
    const std::string unknown = segmenter.unknown(entry.first);
    if (!unknown.empty()) {
      dropped.push_back({entry.first, "the word pieces have no " + unknown + "."});
      continue;
    }
    std::vector<Spelling> ways = segmenter.encode_nbest(entry.first, config.segmentations);
    const double worth = entry.second * double(ways[0].size());
    spelled.push_back(SpelledPhrase{entry.first, worth, std::move(ways)});
  }
  if (config.strict && !dropped.empty()) {
    std::string shown;
    for (size_t i = 0; i < dropped.size() && i < size_t(kShown); i++)
      shown += (i ? "; '" : "'") + shortened(dropped[i].text) + "' " + dropped[i].reason;
    if (dropped.size() > size_t(kShown))
      shown += "; and " + std::to_string(dropped.size() - kShown) + " more";
    refuse(std::to_string(dropped.size()) + " of " + std::to_string(phrases.size()) + " " + what +
           " cannot be used: " + shown + ". Change or remove them.");
  }
  all_dropped.insert(all_dropped.end(), dropped.begin(), dropped.end());
  return spelled;
}

void gather(const std::vector<SpelledPhrase>& phrases, std::vector<Spelling>& spellings,
            std::vector<double>& worths) {
  for (const SpelledPhrase& phrase : phrases)
    for (const Spelling& way : phrase.segmentations) {
      spellings.push_back(way);
      worths.push_back(phrase.worth);
    }
}

// Carriers: recursive descent over one sentence; see carriers.py.
class CarrierParser {
 public:
  typedef std::vector<std::string> Sentence;

  CarrierParser(const std::string& line, const std::string& text) : line_(line) {
    const std::string alone = "()[]|";
    for (size_t at = 0; at < text.size();) {
      if (is_space(text[at])) {
        at++;
      } else if (alone.find(text[at]) != std::string::npos) {
        tokens_.push_back(text.substr(at++, 1));
      } else {
        size_t end = at + 1;
        while (end < text.size() && !is_space(text[end]) && text[end] != '@' &&
               alone.find(text[end]) == std::string::npos)
          end++;
        tokens_.push_back(text.substr(at, end - at));
        at = end;
      }
    }
  }

  std::vector<Sentence> sentences() {
    std::vector<Sentence> found = alternatives(0);
    if (at_ < tokens_.size()) wrong("has a '" + tokens_[at_] + "' without its pair");
    found.erase(std::remove(found.begin(), found.end(), Sentence()), found.end());
    return found;
  }

  [[noreturn]] void wrong(const std::string& reason) const {
    const std::string shown = line_.size() <= 60 ? line_ : line_.substr(0, 57) + "...";
    refuse("the carrier '" + shown + "' " + reason +
           "; an example is 'turn (on|off) [the] @appliance'.");
  }

 private:
  bool next_is(const char* token) const { return at_ < tokens_.size() && tokens_[at_] == token; }

  std::vector<Sentence> alternatives(int depth) {
    if (depth > kMostDepth) wrong("has more than 20 brackets in each other");
    std::vector<Sentence> found;
    std::set<Sentence> known;
    do {
      if (next_is("|")) at_++;
      for (Sentence& sentence : sequence(depth))
        if (known.insert(sentence).second) found.push_back(sentence);
    } while (next_is("|"));
    return found;
  }

  std::vector<Sentence> sequence(int depth) {
    std::vector<Sentence> made{{}};
    while (at_ < tokens_.size() && !next_is(")") && !next_is("]") && !next_is("|")) {
      const std::string token = tokens_[at_++];
      std::vector<Sentence> parts;
      if (token == "(" || token == "[") {
        parts = alternatives(depth + 1);
        if (!next_is(token == "(" ? ")" : "]")) wrong("has a '" + token + "' without its pair");
        at_++;
        if (token == "[") parts.push_back({});
      } else if (token == "@") {
        wrong("has an '@' without a name");
      } else {
        parts = {{token[0] == '@' ? token : plain(token)}};
      }
      std::vector<Sentence> longer;
      for (const Sentence& left : made)
        for (const Sentence& right : parts) {
          longer.push_back(left);
          longer.back().insert(longer.back().end(), right.begin(), right.end());
        }
      made.swap(longer);
      if (made.size() > kMostSentences) wrong("makes more than 1,000 sentences");
    }
    return made;
  }

  const std::string& line_;
  std::vector<std::string> tokens_;
  size_t at_ = 0;
};

}  // namespace

Carriers Carriers::read(const std::vector<std::string>& lines) {
  Carriers made;
  made.words.resize(1);
  made.classes.resize(1);
  size_t total = 0;
  for (const std::string& line : lines) {
    std::string text = line;
    double factor = 1.0;
    CarrierParser quote(line, "");
    if (characters(line) > kLongestLine)
      quote.wrong("has " + std::to_string(characters(line)) + " characters; at most 1,000 are read");
    if (weighted(strip(line), text, factor)) {
      factor = std::nearbyint(factor / 0x1p-6) * 0x1p-6;
      if (!(factor > 0 && factor <= kLargestBoost))
        quote.wrong("has a factor that is not above 0 and at most 20");
    }
    CarrierParser parser(line, text);
    const auto sentences = parser.sentences();
    total += sentences.size();
    if (total > kMostSentences) quote.wrong("makes more than 1,000 sentences; split the brackets");
    bool opens = false;
    for (const auto& sentence : sentences)
      for (const std::string& part : sentence) opens |= part[0] == '@';
    if (!opens)
      quote.wrong("names no class; write one such as @contact, or a plain phrase");
    for (auto sentence : sentences) {
      while (!sentence.empty() && sentence.back()[0] != '@') sentence.pop_back();
      int node = 0;
      for (const std::string& part : sentence) {
        const bool is_class = part[0] == '@';
        const std::string name = is_class ? part.substr(1) : part;
        if (is_class) {
          bool known = false;
          for (auto& entry : made.factors) {
            if (std::get<0>(entry) != node || std::get<1>(entry) != name) continue;
            std::get<2>(entry) = std::max(std::get<2>(entry), factor);
            known = true;
          }
          if (!known) made.factors.emplace_back(node, name, factor);
        }
        Edges& edges = (is_class ? made.classes : made.words)[size_t(node)];
        int next = -1;
        for (const auto& edge : edges)
          if (edge.first == name) next = edge.second;
        if (next < 0) {
          next = int(made.words.size());
          edges.push_back({name, next});
          made.words.emplace_back();
          made.classes.emplace_back();
        }
        node = next;
      }
    }
  }
  return made;
}

PersonalWords::PersonalWords(const WordPieces& pieces, const std::vector<std::string>& phrases,
                             const Classes& classes, const std::vector<std::string>& carriers,
                             const PersonalConfig& config) {
  require(config.boost > 0 && config.boost <= kLargestBoost,
          "boost must be above 0 and at most 20, not " + number_text(config.boost) +
              "; without phrases nothing is boosted.");
  require(config.segmentations >= 1, "segmentations must be 1 or more.");
  const Segmenter segmenter(pieces);
  std::vector<char> starts = pieces.starts();
  starts[0] = 0;
  phrases_ = spell(read_phrases(phrases), segmenter, config, kFewestCharacters, "phrases",
                   dropped_);
  std::set<Spelling> known_spellings;
  const auto remember = [&](const std::vector<SpelledPhrase>& entries) {
    for (const SpelledPhrase& entry : entries)
      if (known_spellings.insert(entry.segmentations[0]).second)
        spellings_.push_back(entry.segmentations[0]);
  };
  remember(phrases_);
  std::unique_ptr<PhraseGraph> listed;
  if (!phrases_.empty()) {
    std::vector<Spelling> spellings;
    std::vector<double> worths;
    gather(phrases_, spellings, worths);
    listed = std::make_unique<PhraseGraph>(spellings, worths, starts);
  }
  std::map<std::string, std::shared_ptr<const PhraseTree>> trees;
  std::set<std::string> names;
  for (const auto& entry : classes) {
    names.insert(entry.first);
    const auto entries = spell(read_phrases(entry.second), segmenter, config, kFewestOfClass,
                               "entries of a class", dropped_);
    remember(entries);
    if (entries.empty()) continue;
    std::vector<Spelling> spellings;
    std::vector<double> worths;
    gather(entries, spellings, worths);
    trees[entry.first] = std::make_shared<PhraseTree>(spellings, worths, pieces.size());
  }
  const Carriers read = Carriers::read(carriers);
  std::set<std::string> opened;
  for (const auto& factor : read.factors) opened.insert(std::get<1>(factor));
  for (const std::string& name : opened) {
    if (names.count(name)) continue;
    std::string known;
    for (const std::string& other : names) known += (known.empty() ? "@" : ", @") + other;
    refuse("the carriers name '@" + name + "', which is not among the classes (" +
           (known.empty() ? "none" : known) + "); give its entries, an empty list if there are "
           "none.");
  }
  for (const std::string& name : names)
    require(opened.count(name),
            "no carrier opens the class '@" + name + "', so it would never act; give one such as "
            "'call @" + name + "', or give its entries as phrases.");
  std::unique_ptr<ClassGraph> graph;
  if (!trees.empty()) {
    std::set<std::string> texts;
    for (const auto& edges : read.words)
      for (const auto& edge : edges) texts.insert(edge.first);
    ClassGraph::Words words;
    std::string unknown;
    for (const std::string& word : texts) {
      if (segmenter.unknown(word).empty())
        words.push_back({word, segmenter.encode_nbest(word, config.segmentations)});
      else
        unknown += (unknown.empty() ? "" : ", ") + word;
    }
    require(unknown.empty(), "the vocabulary cannot spell these words of the carriers: " + unknown +
                                 "; write them as they are spoken, in lower case and without "
                                 "digits.");
    graph = std::make_unique<ClassGraph>(
        read, words,
        std::vector<std::pair<std::string, std::shared_ptr<const PhraseTree>>>(trees.begin(),
                                                                              trees.end()),
        starts);
  }
  if (listed && graph)
    bias_ = std::make_unique<BothGraphs>(std::move(listed), std::move(graph), pieces.size());
  else if (listed)
    bias_ = std::move(listed);
  else
    bias_ = std::move(graph);
}

// Text as it is spoken -------------------------------------------------------------------------

namespace {

// Letters of Latin-1 (from U+00C0) and Latin Extended-A (from U+0100) without their accents, in
// lower case; "." for what is no accented letter.
const char kLatin1[] =
    "a|a|a|a|a|a|ae|c|e|e|e|e|i|i|i|i|.|n|o|o|o|o|o|.|o|u|u|u|u|y|.|ss|"
    "a|a|a|a|a|a|ae|c|e|e|e|e|i|i|i|i|.|n|o|o|o|o|o|.|o|u|u|u|u|y|.|y|";
const char kExtended[] =
    "aaaaaaccccccccdd..eeeeeeeeeegggggggghh..iiiiiiiii...jjkk.llllll....nnnnnnn..oooooo..rrrrrrss"
    "sssssstttt..uuuuuuuuuuuuwwyyyzzzzzzs";

std::string unaccented(unsigned code) {
  if (code >= 0xC0 && code < 0x100) {
    const char* at = kLatin1;
    for (unsigned n = code - 0xC0; n; n--) at = std::strchr(at, '|') + 1;
    const std::string found(at, std::strchr(at, '|'));
    return found == "." ? "" : found;
  }
  if (code == 0x152 || code == 0x153) return "oe";
  if (code < 0x100 || code >= 0x180) return "";
  const char found = kExtended[code - 0x100];
  return found == '.' ? "" : std::string(1, found);
}

const char* const kOnes[] = {"zero",    "one",     "two",       "three",    "four",
                             "five",    "six",     "seven",     "eight",    "nine",
                             "ten",     "eleven",  "twelve",    "thirteen", "fourteen",
                             "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
const char* const kTens[] = {"twenty", "thirty", "forty",  "fifty",
                             "sixty",  "seventy", "eighty", "ninety"};

// 0 to 99, round hundreds and thousands; other numbers are said in several ways and stay digits.
std::string number_words(int number) {
  if (number < 20) return kOnes[number];
  if (number < 100)
    return kTens[number / 10 - 2] + (number % 10 ? " " + std::string(kOnes[number % 10]) : "");
  if (number < 1000)
    return std::string(kOnes[number / 100]) + " hundred" +
           (number % 100 ? " " + number_words(number % 100) : "");
  return number_words(number / 1000) + " thousand" +
         (number % 1000 ? " " + number_words(number % 1000) : "");
}

std::string say(const std::string& word) {
  if (word.empty() || word.size() > 6 || (word.size() > 1 && word[0] == '0')) return word;
  for (const char c : word)
    if (c < '0' || c > '9') return word;
  const int number = std::atoi(word.c_str());
  const bool round = number < 1000 ? number % 100 == 0 : number % 1000 == 0 && number != 2000;
  return number < 100 || round ? number_words(number) : word;
}

}  // namespace

std::string spoken_text(const std::string& text) {
  std::string folded;
  for (size_t at = 0; at < text.size();) {
    const std::string c = text.substr(at, character_size(text[at]));
    at += c.size();
    if (c.size() == 1) {
      const char lower = c[0] >= 'A' && c[0] <= 'Z' ? char(c[0] - 'A' + 'a') : c[0];
      if (lower == '&' || lower == '+' || lower == '@')
        folded += lower == '&' ? " and " : lower == '+' ? " plus " : " at ";
      else if (std::strchr("-/\\_|~=<>", lower) || is_space(lower))
        folded += lower == '-' || lower == '/' ? lower : ' ';
      else
        folded += lower == '`' ? '\'' : lower;
      continue;
    }
    unsigned code = unsigned(c[0]) & (c.size() == 2 ? 0x1F : c.size() == 3 ? 0x0F : 0x07);
    for (size_t i = 1; i < c.size(); i++) code = code << 6 | (unsigned(c[i]) & 0x3F);
    if (code == 0x2019 || code == 0x2018 || code == 0xB4 || code == 0x2BC || code == 0x2032)
      folded += '\'';
    else if (code >= 0x2010 && code <= 0x2015)
      folded += '-';
    else if (code >= 0x300 && code < 0x370)
      continue;  // a combining accent
    else if (code == 0xA0 || (code >= 0x2000 && code <= 0x200A) || code == 0x202F)
      folded += ' ';
    else if (code == 0xA1 || code == 0xAB || code == 0xBB || code == 0xBF ||
             (code >= 0x2016 && code <= 0x206F && code != 0x2044))
      continue;  // quotation marks and other punctuation
    else if (const std::string base = unaccented(code); !base.empty())
      folded += base;
    else
      folded += c;
  }
  // Punctuation goes, unless it stands inside a number.
  const auto digit = [&](size_t i) {
    return i < folded.size() && folded[i] >= '0' && folded[i] <= '9';
  };
  const auto in_word = [&](size_t i) {
    return i < folded.size() && ((folded[i] >= 'a' && folded[i] <= 'z') || digit(i) ||
                                 (folded[i] & 0x80));
  };
  std::string kept;
  for (size_t i = 0; i < folded.size(); i++) {
    const char c = folded[i];
    const bool inside = i && digit(i - 1) && digit(i + 1);
    if (c == '\'')
      kept += i && in_word(i - 1) && in_word(i + 1) ? '\'' : ' ';
    else if (c == '-' || c == '/')
      kept += inside ? c : ' ';
    else if (in_word(i) || c == ' ' || (inside && std::strchr(".,:", c)) || std::strchr("$%", c))
      kept += c;
  }
  std::string made, word;
  for (const char c : kept + " ") {
    if (c != ' ') {
      word += c;
      continue;
    }
    if (word.empty()) continue;
    made += (made.empty() ? "" : " ") + say(word);
    word.clear();
  }
  return made;
}

}  // namespace slm
