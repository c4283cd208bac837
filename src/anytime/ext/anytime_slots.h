/* The shared memory between a robot's process and an isolated reasoner's, and how to read an answer from it.
 *
 * C99 or C++11, GCC or Clang (for the __atomic built-ins), a 64-bit little-endian Linux; no other dependency and no lock.
 * Times are nanoseconds of CLOCK_MONOTONIC.
 *
 *   header        64 bytes
 *   slot          `slots` times, one request each:
 *     anytime_slot      128 bytes: what the caller and what the worker has written last
 *     request           `request_bytes`, msgpack; of no interest to a reader
 *     two buffers       an anytime_answer of 64 bytes, then `answer_bytes`: the text (UTF-8), the details (msgpack)
 *
 * The worker writes an answer into the buffer that is not the current one, then stores `sequence`; its lowest bit says
 * which buffer is current. So whatever happens to the worker while it writes, the answer before stays whole. A reader
 * copies a buffer first and then looks whether what it copied is whole: generation, sequence and checksum say so.
 */
#ifndef ANYTIME_SLOTS_H
#define ANYTIME_SLOTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ANYTIME_SLOTS_MAGIC 0x53544f4c53594e41u /* "ANYSLOTS" */
#define ANYTIME_SLOTS_VERSION 1u
#define ANYTIME_SLOTS_HEADER_BYTES 64u

enum {
    ANYTIME_FINAL = 1, /* nothing better will come for this request */
    ANYTIME_VALID = 2, /* the model's own answer, in the format asked for */
    ANYTIME_FAILED = 4 /* the request was wrong; the details say how */
};

typedef struct {
    uint64_t magic;
    uint32_t version, slots, request_bytes, answer_bytes;
    uint8_t reserved[40];
} anytime_slots_header;

typedef struct {
    /* The caller's: serial of the request, of the one it called off, of the one whose worker was lost. */
    uint64_t asked, cancelled, lost;
    int64_t deadline_ns;
    uint32_t request_bytes;
    uint8_t reserved[28];
    /* The worker's: how far it has come (4 · serial + stage), how many answers it has published here, and when it had
     * rung for the first of those to its latest request. */
    uint64_t progress, sequence;
    int64_t first_rung_ns;
    uint8_t reserved_too[40];
} anytime_slot;

typedef struct {
    uint64_t generation; /* serial of the request it answers */
    uint64_t sequence;   /* what the slot's is while this one is current */
    int64_t deadline_ns, published_ns;
    double confidence;
    uint32_t flags, text_bytes, detail_bytes;
    uint32_t checksum; /* CRC-32 (as zlib's) of the 52 bytes before it, the text and the details */
    uint8_t reserved[8];
} anytime_answer;

#define ANYTIME_CHECKED_BYTES 52u /* of an anytime_answer */

static inline uint64_t anytime_load(const uint64_t *place) { return __atomic_load_n(place, __ATOMIC_ACQUIRE); }

static inline void anytime_store(uint64_t *place, uint64_t value) { __atomic_store_n(place, value, __ATOMIC_RELEASE); }

/* CRC-32 of ISO-HDLC, four bits at a time; begin with 0 and go on with what it returned. */
static inline uint32_t anytime_crc32(uint32_t crc, const void *data, size_t bytes) {
    static const uint32_t table[16] = {0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
                                       0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
                                       0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};
    const unsigned char *next = (const unsigned char *)data;
    crc = ~crc;
    while (bytes--) {
        crc ^= *next++;
        crc = (crc >> 4) ^ table[crc & 15u];
        crc = (crc >> 4) ^ table[crc & 15u];
    }
    return ~crc;
}

/* Slots attached to: where they are, and a copy of the header that whoever else writes there cannot change. */
typedef struct {
    char *memory;
    anytime_slots_header header;
} anytime_slots;

static inline size_t anytime_buffer_bytes(const anytime_slots *slots) {
    return sizeof(anytime_answer) + slots->header.answer_bytes;
}

static inline size_t anytime_slot_bytes(const anytime_slots *slots) {
    return sizeof(anytime_slot) + slots->header.request_bytes + 2 * anytime_buffer_bytes(slots);
}

static inline size_t anytime_slots_bytes(const anytime_slots *slots) {
    return ANYTIME_SLOTS_HEADER_BYTES + slots->header.slots * anytime_slot_bytes(slots);
}

/* Whether `bytes` of memory are slots of this version, and not cut short; if so, `slots` is attached to them. */
static inline int anytime_slots_attach(anytime_slots *slots, const void *memory, size_t bytes) {
    if (bytes < ANYTIME_SLOTS_HEADER_BYTES) return 0;
    slots->memory = (char *)memory;
    memcpy(&slots->header, memory, sizeof slots->header);
    return slots->header.magic == ANYTIME_SLOTS_MAGIC && slots->header.version == ANYTIME_SLOTS_VERSION &&
           slots->header.answer_bytes % 64 == 0 && slots->header.request_bytes % 64 == 0 &&
           bytes >= anytime_slots_bytes(slots);
}

static inline anytime_slot *anytime_slot_at(const anytime_slots *slots, uint32_t slot) {
    return (anytime_slot *)(slots->memory + ANYTIME_SLOTS_HEADER_BYTES + slot * anytime_slot_bytes(slots));
}

static inline char *anytime_request_at(const anytime_slots *slots, uint32_t slot) {
    return (char *)anytime_slot_at(slots, slot) + sizeof(anytime_slot);
}

static inline anytime_answer *anytime_buffer_at(const anytime_slots *slots, uint32_t slot, unsigned which) {
    return (anytime_answer *)(anytime_request_at(slots, slot) + slots->header.request_bytes +
                              which * anytime_buffer_bytes(slots));
}

/* Copy the buffer that holds answer number `sequence`; whether the copy is whole. */
static inline int anytime_copy_answer(const anytime_slots *slots, uint32_t slot, uint64_t sequence, uint64_t generation,
                                      anytime_answer *answer, void *data, size_t capacity) {
    const anytime_answer *buffer = anytime_buffer_at(slots, slot, (unsigned)(sequence & 1u));
    uint64_t bytes;
    memcpy(answer, buffer, sizeof *answer);
    bytes = (uint64_t)answer->text_bytes + answer->detail_bytes;
    if (answer->sequence != sequence || answer->generation == 0 || bytes > slots->header.answer_bytes ||
        bytes > capacity || (generation != 0 && answer->generation != generation))
        return 0;
    memcpy(data, buffer + 1, (size_t)bytes);
    return answer->checksum == anytime_crc32(anytime_crc32(0, answer, ANYTIME_CHECKED_BYTES), data, (size_t)bytes);
}

/* The best answer so far to request `generation` (0: to whichever was answered last) in a slot; 0 where there is none.
 *
 * `data` takes `answer->text_bytes` of text and `answer->detail_bytes` of details behind it; a `capacity` of the
 * header's `answer_bytes` is always enough. Where the current buffer is not whole, the answer before is read.
 */
static inline int anytime_read_answer(const anytime_slots *slots, uint32_t slot, uint64_t generation,
                                      anytime_answer *answer, void *data, size_t capacity) {
    const anytime_slot *place = anytime_slot_at(slots, slot);
    uint64_t sequence = anytime_load(&place->sequence), now;
    int tries;
    for (tries = 0; tries < 64 && sequence != 0; tries++) {
        if (anytime_copy_answer(slots, slot, sequence, generation, answer, data, capacity)) return 1;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        now = anytime_load(&place->sequence);
        if (now == sequence) break; /* not overwritten while it was copied: not whole, or another request's */
        sequence = now;
    }
    return sequence > 1 && anytime_copy_answer(slots, slot, sequence - 1, generation, answer, data, capacity);
}

#endif
