#pragma once

// What a network has to beat: forecasts that take a line or two.

#include <examples/forecast/samples.h>

#include <functional>
#include <map>

namespace unroll::examples::forecast {

/// The best m in [2, W] for "as m steps before" (twice m and so on, where that is still to come), by the mean error in
/// the training part; m is at least the horizon where the window allows it.
inline Index find_season(const Samples& samples) {
  Index best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (Index m = std::min(std::max<Index>(2, samples.horizon), samples.window); m <= samples.window; ++m) {
    double sum = 0;
    Index count = 0;
    for (std::size_t c = 0; c < samples.series.columns.size(); ++c)
      for (Index t = m; t < samples.train.end; ++t, ++count)
        sum += std::abs(samples.at(t, c) - samples.at(t - m, c)) / samples.mean_step(c);
    if (sum / static_cast<double>(count) < least) {
      least = sum / static_cast<double>(count);
      best = m;
    }
  }
  return best;
}

/// A forecast of one number for each step, as rows of (h, c), gets its band from its own errors on the validation
/// part: their quantiles, for each step ahead.
inline Matrix with_band(const Matrix& points, Matrix errors) {
  Matrix forecasts(points.rows(), points.cols() * quantiles);
  for (Index j = 0; j < points.cols(); ++j) {
    Eigen::VectorXd sorted = errors.col(j);
    std::ranges::sort(sorted);
    for (Index q = 0; q < quantiles; ++q) {
      const double place = levels[static_cast<std::size_t>(q)] * static_cast<double>(sorted.size() - 1);
      const double shift = q == middle ? 0 : sorted[static_cast<Index>(std::lround(place))];
      forecasts.col(j * quantiles + q) = points.col(j).array() + shift;
    }
  }
  return forecasts;
}

/// Forecasts of the test part by each method: the last value; the last season; and a linear function of the window
/// for each step ahead, by least squares on the training part.
inline std::vector<std::pair<std::string, Matrix>> baselines(const Samples& samples) {
  const Index season = find_season(samples), columns = samples.columns();
  auto naive = [&](Samples::Range range) { return Matrix(Matrix::Zero(range.size(), samples.horizon * columns)); };
  auto seasonal = [&](Samples::Range range) {
    const Matrix known = samples.known(range);
    Matrix points(range.size(), samples.horizon * columns);
    for (Index h = 0; h < samples.horizon; ++h)
      points.middleCols(h * columns, columns) =
          known.middleCols((samples.window - season + h % season) * columns, columns);
    return points;
  };
  auto inputs = [&](Samples::Range range) {
    const Matrix known = samples.known(range);
    Matrix x(known.rows(), known.cols() + 1);
    x << known, Matrix::Ones(known.rows(), 1);
    return x;
  };
  const Matrix weights = inputs(samples.train).completeOrthogonalDecomposition().solve(samples.wanted(samples.train));
  auto linear = [&](Samples::Range range) { return Matrix(inputs(range) * weights); };

  std::vector<std::pair<std::string, Matrix>> all;
  auto add = [&](const std::string& name, const auto& method) {
    all.emplace_back(name,
                     with_band(method(samples.test), samples.wanted(samples.validation) - method(samples.validation)));
  };
  add("naive", naive);
  add(fmt::format("seasonal ({})", season), seasonal);
  add("linear", linear);
  return all;
}

}  // namespace unroll::examples::forecast
