// Sums in NumPy's order, so that decisions are those of the Python classes bit for bit.
#pragma once

namespace slm {

// numpy.add.reduce over a contiguous axis: eight partial sums, halves above 128 numbers.
template <class T>
T pairwise_sum(const T* a, int n) {
  if (n < 8) {
    T sum = 0;
    for (int i = 0; i < n; i++) sum += a[i];
    return sum;
  }
  if (n <= 128) {
    T r[8];
    for (int j = 0; j < 8; j++) r[j] = a[j];
    int i = 8;
    for (; i < n - n % 8; i += 8)
      for (int j = 0; j < 8; j++) r[j] += a[i + j];
    T sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    for (; i < n; i++) sum += a[i];
    return sum;
  }
  int half = n / 2;
  half -= half % 8;
  return pairwise_sum(a, half) + pairwise_sum(a + half, n - half);
}

}  // namespace slm
