/* Memory that is only read: what no decoder can be faster than (benchmarks/limits.py). */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef uint64_t wide __attribute__((vector_size(64)));

/* `size` bytes in pages of 2 MiB or of 4 KiB, written once; NULL when there is no memory. */
void *limits_new(size_t size, int huge) {
    void *memory = mmap(NULL, size + (2u << 20), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    char *start = (char *)(((uintptr_t)memory + (2u << 20) - 1) & ~(uintptr_t)((2u << 20) - 1));
    madvise(start, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    memset(start, 1, size);
    return start;
}

void limits_free(void *memory, size_t size) { munmap(memory, size); }

/* Sum of `size` bytes (a multiple of 1024), `rounds` times, in four streams as a matrix product
   reads rows. The sum is returned so that the loop cannot be left out. */
uint64_t limits_read(const char *memory, size_t size, int rounds) {
    wide sums[8] = {{0}};
    size_t quarter = size / 4;
    for (int round = 0; round < rounds; round++)
        for (size_t at = 0; at < quarter; at += 128)
            for (int stream = 0; stream < 4; stream++) {
                const wide *from = (const wide *)(memory + stream * quarter + at);
                sums[2 * stream] += from[0];
                sums[2 * stream + 1] += from[1];
            }
    uint64_t sum = 0;
    for (int i = 0; i < 8; i++)
        for (int lane = 0; lane < 8; lane++) sum += sums[i][lane];
    return sum;
}
