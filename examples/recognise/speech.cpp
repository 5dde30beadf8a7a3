#include <examples/recognise/speech.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace unroll::examples::recognise {

namespace {

// O'Shaughnessy 1987, "Speech communication", and back.
double mel(double hertz) { return 2595 * std::log10(1 + hertz / 700); }
double hertz(double mel) { return 700 * (std::pow(10, mel / 2595) - 1); }

struct Formants {
  double f1, f2;  ///< Hz
};
// The averages of 33 men (Peterson and Barney 1952, "Control methods used in a study of the vowels", table II).
constexpr Formants i = {270, 2290}, e = {530, 1840}, a = {730, 1090}, o = {570, 840}, u = {300, 870};

enum class Manner { vowel, stop, fricative, nasal };
struct Phone {
  const char* name;
  Manner manner;
  Formants from, to;  ///< of a consonant: where it pulls the formants of its neighbours (its locus); 0: where they go
  double frames;      ///< how long it lasts at a middling pace; of a stop: its silence
  double hiss_at = 0, hiss_by = 0;  ///< friction around hiss_at Hz + hiss_by f2 of the vowel to come
};
// Loci: Delattre, Liberman and Cooper 1955, "Acoustic loci and transitional cues for consonants".
// A burst is not a p or a k by its own pitch, but by how that compares with the vowel to come: around 1300 Hz it is a p
// before "i" and a k before "a" (Liberman, Delattre and Cooper 1952, "The role of selected stimulus-variables in the
// perception of the unvoiced stop consonants").
constexpr Formants labial = {250, 720}, alveolar = {250, 1800}, velar = {250, 0}, nasal = {250, 1000};
constexpr Phone phones[] = {{"i", Manner::vowel, i, i, 4},
                            {"e", Manner::vowel, e, e, 4},
                            {"a", Manner::vowel, a, a, 4},
                            {"o", Manner::vowel, o, o, 4},
                            {"u", Manner::vowel, u, u, 4},
                            {"ii", Manner::vowel, i, i, 8},
                            {"ee", Manner::vowel, e, e, 8},
                            {"aa", Manner::vowel, a, a, 8},
                            {"oo", Manner::vowel, o, o, 8},
                            {"uu", Manner::vowel, u, u, 8},
                            {"ai", Manner::vowel, a, i, 8},
                            {"ya", Manner::vowel, i, a, 8},
                            {"au", Manner::vowel, a, u, 8},
                            {"wa", Manner::vowel, u, a, 8},
                            {"p", Manner::stop, labial, labial, 3, 0, 0.55},
                            {"t", Manner::stop, alveolar, alveolar, 3, 3800, 0},
                            {"k", Manner::stop, velar, velar, 3, 0, 1.1},
                            {"s", Manner::fricative, alveolar, alveolar, 5, 4200, 0},
                            {"m", Manner::nasal, nasal, nasal, 4}};
constexpr Index vowels = 14, consonants = std::ssize(phones) - vowels;

/// What the mouth does in one frame.
struct Gesture {
  double f1, f2;            ///< formants, mel
  double voice;             ///< its energy
  double hiss = 0, at = 0;  ///< the energy of friction, and around which pitch it is, mel
};

/// The mouth of one speaker, and all that it has done so far.
struct Mouth {
  double scale, pace;  ///< of all pitches; of all durations
  std::vector<Gesture> gestures = {};

  /// Moves from one pair of formants to another.
  void move(Formants from, Formants to, double frames, double voice, double hiss = 0, double at = 0) {
    const Index count = std::max<Index>(1, std::lround(frames));
    for (Index k = 0; k < count; ++k) {
      const double done = (static_cast<double>(k) + 0.5) / static_cast<double>(count);
      auto between = [&](double x, double y) { return (1 - done) * mel(scale * x) + done * mel(scale * y); };
      gestures.push_back({between(from.f1, to.f1), between(from.f2, to.f2), voice, hiss, mel(scale * at)});
    }
  }

  /// A tongue does not jump: every frame's formants are a mean over those around it, with the weights 1 4 6 4 1. The
  /// voice begins and ends at once.
  void slow_down() {
    const std::vector<Gesture> meant = gestures;
    const Index last = std::ssize(meant) - 1;
    for (Index t = 0; t <= last; ++t) {
      Gesture& g = gestures[static_cast<std::size_t>(t)];
      g.f1 = g.f2 = 0;
      for (Index d = -2; d <= 2; ++d) {
        const Gesture& near = meant[static_cast<std::size_t>(std::clamp<Index>(t + d, 0, last))];
        const double weight = (d == 0 ? 6 : d * d == 1 ? 4 : 1) / 16.0;
        g.f1 += weight * near.f1;
        g.f2 += weight * near.f2;
      }
    }
  }

  void say(const Phone& phone, Formants next, double frames) {
    Formants locus = phone.from;
    if (locus.f2 == 0) locus.f2 = next.f2;  // k is made where the tongue is going anyway
    const double hiss = phone.hiss_at + phone.hiss_by * next.f2;
    if (phone.manner == Manner::vowel) move(phone.from, phone.to, frames, 1);
    if (phone.manner == Manner::nasal) move(locus, locus, frames, 0.3);
    if (phone.manner == Manner::fricative) move(locus, locus, frames, 0, 0.5, hiss);
    if (phone.manner == Manner::stop) {
      move(locus, locus, frames, 0);
      move(locus, next, 2 * pace, 0, 0.5, hiss);
    }
  }
};

/// How much of what sounds at one pitch is heard at another.
double share(double pitch, double at, double width) { return std::exp(-0.5 * std::pow((pitch - at) / width, 2)); }

double log_uniform(double low, double high, Generator& rng) {
  return std::exp(rng.uniform(std::log(low), std::log(high)));
}

}  // namespace

double band_centre(Index band) {
  const double low = mel(200), high = mel(5000);
  return hertz(low + (high - low) * static_cast<double>(band) / static_cast<double>(bands - 1));
}

std::int32_t label_count() { return static_cast<std::int32_t>(std::size(phones)) + 1; }

std::string label_name(std::int32_t label) { return label == blank ? "blank" : phones[label - 1].name; }

Utterance draw_utterance(Generator& rng) {
  // From a large man to a child: the means of Peterson and Barney's men and children are a factor of 1.3 apart.
  Mouth mouth{.scale = log_uniform(0.85, 1.4, rng), .pace = log_uniform(0.6, 1.6, rng)};
  const double loudness = log_uniform(0.4, 2.5, rng), noise = log_uniform(0.01, 0.1, rng);
  const double tilt = rng.uniform(-1, 1);  // how a voice, or a microphone, favours high or low bands
  constexpr double flutter = 0.4;          // of the energy in a short piece of sound

  Utterance utterance;
  auto pause = [&](Formants where) { mouth.move(where, where, rng.uniform(3, 9), 0); };
  auto say = [&](Index k, Formants next) {
    const Index begin = std::ssize(mouth.gestures);
    mouth.say(phones[k], next, phones[k].frames * mouth.pace * rng.uniform(0.9, 1.1));
    utterance.labels.push_back(static_cast<std::int32_t>(k) + 1);
    utterance.when.push_back((begin + std::ssize(mouth.gestures)) / 2);
  };

  const Index syllables = 4 + rng.below(5);
  Formants before = {};
  for (Index syllable = 0; syllable < syllables; ++syllable) {
    const Index vowel = rng.below(vowels);
    const Formants start = phones[vowel].from;
    const bool paused = syllable == 0 || rng.uniform() < 0.2;
    if (paused) pause(start);
    if (rng.uniform() < 0.7)
      say(vowels + rng.below(consonants), start);
    else if (!paused)
      mouth.move(before, start, 2, 0.05);
    say(vowel, start);
    before = phones[vowel].to;
  }
  pause(before);

  mouth.slow_down();
  std::array<double, bands> pitches, gains;
  for (Index band = 0; band < bands; ++band) {
    const auto b = static_cast<std::size_t>(band);
    pitches[b] = mel(band_centre(band));
    gains[b] = loudness * std::exp(tilt * (2 * static_cast<double>(band) / (bands - 1) - 1));
  }
  for (const Gesture& g : mouth.gestures)
    for (std::size_t b = 0; b < bands; ++b) {
      const double voice = share(pitches[b], g.f1, 120) + 0.6 * share(pitches[b], g.f2, 120);
      const double speech = g.voice * voice + g.hiss * share(pitches[b], g.at, 180);
      utterance.frames.push_back(std::log(gains[b] * speech + noise) + flutter * rng.normal());
    }
  return utterance;
}

std::vector<Utterance> draw_utterances(Index count, Generator rng) {
  std::vector<Utterance> utterances;
  for (Index n = 0; n < count; ++n) utterances.push_back(draw_utterance(rng));
  return utterances;
}

Normalisation::Normalisation(std::span<const Utterance> utterances) : mean_(bands), deviation_(bands) {
  std::vector<double> squares(bands);
  Index count = 0;
  for (const Utterance& utterance : utterances) {
    count += utterance.length();
    for (std::size_t k = 0; k < utterance.frames.size(); ++k) {
      mean_[k % bands] += utterance.frames[k];
      squares[k % bands] += utterance.frames[k] * utterance.frames[k];
    }
  }
  for (std::size_t b = 0; b < bands; ++b) {
    mean_[b] /= static_cast<double>(count);
    deviation_[b] = std::sqrt(squares[b] / static_cast<double>(count) - mean_[b] * mean_[b]);
  }
}

Batch::Batch(std::span<const Utterance> utterances, const Normalisation& normalisation) {
  for (const Utterance& utterance : utterances) {
    lengths.push_back(utterance.length());
    frame_counts.push_back(static_cast<std::int32_t>(utterance.length()));
    labels.insert(labels.end(), utterance.labels.begin(), utterance.labels.end());
    label_counts.push_back(static_cast<std::int32_t>(utterance.labels.size()));
  }
  const std::size_t count = utterances.size();
  frames = Tensor({std::ranges::max(lengths), static_cast<Index>(count), bands});
  float* to = frames.data<float>();
  for (std::size_t n = 0; n < count; ++n)
    for (std::size_t k = 0; k < utterances[n].frames.size(); ++k)
      to[(k / bands * count + n) * bands + k % bands] =
          static_cast<float>(normalisation(utterances[n].frames[k], k % bands));
}

}  // namespace unroll::examples::recognise
