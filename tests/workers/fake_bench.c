/* A worker that claims to have measured: its samples are drawn, not timed, so that tests know the truth.
 *
 * Every round has a drift that it shares with the same round of the other profile, and one of its own; samples inside of a
 * round have noise and, rarely, are far out. FAKE_SEED is one repetition's; samples of files whose name contains
 * FAKE_SLOW take 5 % longer. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static double uniform(void) {
    state += 0x9e3779b97f4a7c15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static double normal(void) { return sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform()); }

static void seed(const char *text, uint64_t start) {
    state = start * 0x100000001b3u + 14695981039346656037u;
    for (; *text; text++) state = (state ^ (unsigned char)*text) * 0x100000001b3u;
}

static long write_samples(const char *path) {
    const char *name = strrchr(path, '/') + 1;
    const char *round = strrchr(name, '-');
    const char *base = getenv("FAKE_SEED"), *slow = getenv("FAKE_SLOW");
    uint64_t repetition = base ? strtoull(base, 0, 10) : 0;
    seed(round, repetition);
    double shift = 0.02 * normal();
    seed(name, repetition);
    shift += 0.02 * normal();
    if (slow && *slow && strstr(name, slow)) shift += log(1.05);
    const long count = 100;
    FILE *file = fopen(path, "wb");
    if (!file) return -1;
    char header[128];
    int length = snprintf(header, sizeof header, "{'descr': '<i8', 'fortran_order': False, 'shape': (%ld, 3), }", count);
    memset(header + length, ' ', 117 - length);
    header[117] = '\n';
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, file);
    fwrite(header, 1, 118, file);
    int64_t at = 0;
    for (long i = 0; i < count; i++) {
        double spike = uniform() < 0.01 ? 1 : 0;
        int64_t row[3] = {0, at, (int64_t)(1e6 * exp(shift + 0.05 * normal() + spike))};
        at += row[2];
        fwrite(row, 8, 3, file);
    }
    fclose(file);
    return (long)at;
}

int main(void) {
    static char line[1 << 20];
    while (fgets(line, sizeof line, stdin)) {
        const char *found = strstr(line, "\"id\":");
        long id = found ? strtol(found + 5, 0, 10) : 0;
        if (strstr(line, "\"describe\"")) {
            printf("{\"id\":%ld,\"event\":{\"result\":{\"describe\":{\"protocol_version\":1,\"backend\":\"onnxruntime\","
                   "\"worker_version\":\"1\",\"build\":\"available\",\"run\":\"available\"}}}}\n", id);
        } else {
            char *path = strstr(line, "\"samples\":\"") + 11;
            *strchr(path, '"') = 0;
            long elapsed = write_samples(path);
            printf("{\"id\":%ld,\"event\":{\"progress\":{\"stage\":\"first_result\"}}}\n"
                   "{\"id\":%ld,\"event\":{\"result\":{\"bench\":{\"load_us\":1000,\"sample_count\":100,\"elapsed_ns\":%ld,"
                   "\"settled\":true,\"clock\":\"a die\",\"boundary\":\"nothing\"}}}}\n", id, id, elapsed);
        }
        fflush(stdout);
    }
    return 0;
}
