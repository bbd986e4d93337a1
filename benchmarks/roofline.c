/* What this CPU can do at most: 8-bit multiply-accumulates, float ones, and copying within each size of memory.
 *
 * In: the number of threads. Out: lines "vnni MACS_PER_S", "fma MACS_PER_S", "copy BYTES BYTES_PER_S": read and written
 * bytes together, of all threads, each in a buffer of its own. No "vnni" where the compiler's target has none.
 */
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CHAINS = 16, REPEATS = 7 }; /* as many sums as a multiply takes cycles, twice, so that none waits */

typedef struct {
  int kind; /* 0 vnni, 1 fma, 2 copy */
  long count;
  size_t bytes;
  pthread_barrier_t *together;
  double seconds;
  int sink;
} Job;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

#ifdef __AVX512VNNI__
static int vnni(long count) {
  __m512i sums[CHAINS], a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_epi32(i);
  for (long n = 0; n < count; n++) {
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], a, b);
    __asm__ volatile("" : "+v"(a), "+v"(b));
  }
  for (int i = 1; i < CHAINS; i++) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  return _mm512_reduce_add_epi32(sums[0]);
}
#endif

#ifdef __AVX512F__
static int fma_(long count) {
  __m512 sums[CHAINS], a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1.0f);
  for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_ps((float)i);
  for (long n = 0; n < count; n++) {
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_fmadd_ps(sums[i], a, b);
    __asm__ volatile("" : "+v"(a), "+v"(b));
  }
  for (int i = 1; i < CHAINS; i++) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return (int)_mm512_reduce_add_ps(sums[0]);
}
#endif

static void *run(void *argument) {
  Job *job = argument;
  char *from = NULL, *to = NULL;
  if (job->kind == 2) {
    from = aligned_alloc(64, job->bytes);
    to = aligned_alloc(64, job->bytes);
    memset(from, 1, job->bytes);
    memset(to, 2, job->bytes);
  }
  pthread_barrier_wait(job->together);
  double began = now();
#ifdef __AVX512VNNI__
  if (job->kind == 0) job->sink = vnni(job->count);
#endif
#ifdef __AVX512F__
  if (job->kind == 1) job->sink = fma_(job->count);
#endif
  if (job->kind == 2)
    for (long n = 0; n < job->count; n++) {
      memcpy(to, from, job->bytes);
      __asm__ volatile("" : : "r"(to) : "memory");
    }
  job->seconds = now() - began;
  free(from);
  free(to);
  return NULL;
}

/* The best of several: what a neighbour takes is no limit of the machine. */
static double rate(int kind, long count, size_t bytes, int threads, double work_per_count) {
  double best = 0.0;
  for (int r = 0; r < REPEATS; r++) {
    pthread_t handles[64];
    Job jobs[64];
    pthread_barrier_t together;
    pthread_barrier_init(&together, NULL, (unsigned)threads);
    for (int t = 0; t < threads; t++) {
      jobs[t] = (Job){kind, count, bytes, &together, 0.0, 0};
      pthread_create(&handles[t], NULL, run, &jobs[t]);
    }
    double slowest = 0.0;
    for (int t = 0; t < threads; t++) {
      pthread_join(handles[t], NULL);
      if (jobs[t].seconds > slowest) slowest = jobs[t].seconds;
    }
    pthread_barrier_destroy(&together);
    double found = (double)threads * (double)count * work_per_count / slowest;
    if (found > best) best = found;
  }
  return best;
}

int main(int argc, char **argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 1;
  if (threads < 1 || threads > 64) return 2;
#ifdef __AVX512VNNI__
  printf("vnni %.6g\n", rate(0, 20000000, 0, threads, CHAINS * 64.0));
#endif
#ifdef __AVX512F__
  printf("fma %.6g\n", rate(1, 20000000, 0, threads, CHAINS * 16.0));
#endif
  for (size_t bytes = 1 << 15; bytes <= (size_t)1 << 26; bytes *= 2) {
    long count = (long)(((size_t)1 << 29) / bytes);
    printf("copy %zu %.6g\n", 2 * bytes * (size_t)threads, rate(2, count, bytes, threads, 2.0 * (double)bytes));
  }
  return 0;
}
