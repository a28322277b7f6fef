/* SHA-256 as FIPS 180-4 defines it, section 6.2; its state after whole blocks can be kept and gone on with. */
#include "agent.h"

#include <string.h>

static const uint32_t rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turned(uint32_t x, int n) { return x >> n | x << (32 - n); }

/* The names a to h of the standard move on by one each round: here the numbers move, known to the compiler. */
static inline void one_round(uint32_t v[8], int at, uint32_t added) {
    uint32_t a = v[-at & 7], b = v[(1 - at) & 7], c = v[(2 - at) & 7];
    uint32_t e = v[(4 - at) & 7], f = v[(5 - at) & 7], g = v[(6 - at) & 7];
    uint32_t one = v[(7 - at) & 7] + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + (g ^ (e & (f ^ g))) + added;
    v[(3 - at) & 7] += one;
    v[(7 - at) & 7] = one + (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) | (c & (a | b)));
}

static void add_block(uint32_t h[8], const unsigned char *block) {
    uint32_t w[64];
    for (int i = 0; i < 16; i++) {
        uint32_t word;
        memcpy(&word, block + 4 * i, 4);
        w[i] = __builtin_bswap32(word); /* every machine that melt has programs for is little-endian */
    }
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (turned(a, 7) ^ turned(a, 18) ^ a >> 3) + w[i - 7] + (turned(b, 17) ^ turned(b, 19) ^ b >> 10);
    }
    uint32_t v[8];
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 64; i += 8) {
        one_round(v, 0, w[i] + rounds[i]);
        one_round(v, 1, w[i + 1] + rounds[i + 1]);
        one_round(v, 2, w[i + 2] + rounds[i + 2]);
        one_round(v, 3, w[i + 3] + rounds[i + 3]);
        one_round(v, 4, w[i + 4] + rounds[i + 4]);
        one_round(v, 5, w[i + 5] + rounds[i + 5]);
        one_round(v, 6, w[i + 6] + rounds[i + 6]);
        one_round(v, 7, w[i + 7] + rounds[i + 7]);
    }
    for (int i = 0; i < 8; i++) h[i] += v[i];
}

void sha256_begin(Sha256 *s) {
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, first, sizeof first);
    s->n_bytes = 0;
}

void sha256_add(Sha256 *s, const void *bytes, size_t n) {
    const unsigned char *at = bytes;
    size_t kept = s->n_bytes % sizeof s->rest;
    s->n_bytes += n;
    if (kept) {
        size_t more = sizeof s->rest - kept < n ? sizeof s->rest - kept : n;
        memcpy(s->rest + kept, at, more);
        at += more;
        n -= more;
        if (kept + more < sizeof s->rest) return;
        add_block(s->h, s->rest);
    }
    for (; n >= sizeof s->rest; at += sizeof s->rest, n -= sizeof s->rest) add_block(s->h, at);
    memcpy(s->rest, at, n);
}

void sha256_end(Sha256 *s, char hex[65]) {
    uint64_t bits = s->n_bytes * 8;
    unsigned char tail[72] = {0x80}; /* a one, zeros up to eight bytes before the end of a block, and the length */
    size_t n = 1 + (119 - s->n_bytes % 64) % 64;
    for (int i = 0; i < 8; i++) tail[n + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
    sha256_add(s, tail, n + 8);
    sha256_state(s, hex);
}

void sha256_state(const Sha256 *s, char hex[65]) {
    for (int i = 0; i < 8; i++)
        for (int digit = 0; digit < 8; digit++) hex[8 * i + digit] = "0123456789abcdef"[s->h[i] >> (28 - 4 * digit) & 15];
    hex[64] = '\0';
}
