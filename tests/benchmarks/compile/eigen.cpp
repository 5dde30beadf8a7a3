// What of unroll.cpp's time is Eigen's.

#include <Eigen/Core>
