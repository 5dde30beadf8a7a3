#pragma once

#include <autograd/random.h>

#include <span>
#include <string>
#include <vector>

namespace unroll::examples::recognise {

using Labels = std::vector<std::int32_t>;

/// What one frame of speech, a fiftieth of a second, is heard by: the logarithms of the energies in so many bands,
/// whose centres are equally far apart in mel, as pitches are to the ear. The lowest is at 200 Hz, the highest at 5
/// kHz.
inline constexpr Index bands = 16;
double band_centre(Index band);  ///< in Hz

/// Phones are labels 1, 2, ...; 0 is the blank of connectionist temporal classification.
inline constexpr std::int32_t blank = 0;
std::int32_t label_count();  ///< with the blank
std::string label_name(std::int32_t label);

struct Utterance {
  std::vector<double> frames;  ///< [T, bands]
  Labels labels;
  std::vector<Index> when;  ///< the frame in the middle of each label: for pictures, no model gets it

  Index length() const { return std::ssize(frames) / bands; }
};

/// Somebody whom nobody has heard before says four to eight syllables of no meaning, so that there is nothing to go by
/// but the sound. As in real speech
/// - vowels are two resonances of the mouth, the formants, and y, w and diphthongs are ways from one vowel to another:
///   "ai" and "ya" pass the same sounds in opposite directions;
/// - heads differ in size, and all formants with them: what is "a" from a large one is "o" from a small one (Ladefoged
///   and Broadbent 1957, "Information conveyed by vowels");
/// - "aa" is twice as long as "a", and a fast speaker's "aa" is as long as a slow one's "a" (Hirata 2004, "Effects of
///   speaking rate on the vowel length distinction in Japanese");
/// - p, t and k are a silence and a burst, and a burst says p before one vowel and k before another;
/// - the mouth takes its time, so that every sound is coloured by its neighbours (co-articulation);
/// - speech is loud or low, clear or in noise, and pauses where it likes.
/// Two vowels are never run into each other: between them the voice breaks off, for two frames.
Utterance draw_utterance(Generator& rng);
std::vector<Utterance> draw_utterances(Index count, Generator rng);

/// Makes every band's mean 0 and its standard deviation 1 over the frames of some utterances, and treats others alike.
class Normalisation {
 public:
  explicit Normalisation(std::span<const Utterance> utterances);
  double operator()(double energy, std::size_t band) const { return (energy - mean_[band]) / deviation_[band]; }

 private:
  std::vector<double> mean_, deviation_;
};

/// Utterances side by side: frames past an utterance's end are 0, and count for nothing.
struct Batch {
  Tensor frames;                           ///< [T, N, bands]
  std::vector<Index> lengths;              ///< [N]: frames
  Labels labels;                           ///< of one utterance after another
  std::vector<std::int32_t> label_counts,  ///< [N]
      frame_counts;                        ///< [N]: the lengths again, as `ctc` takes them

  Batch(std::span<const Utterance> utterances, const Normalisation& normalisation);
};

}  // namespace unroll::examples::recognise
