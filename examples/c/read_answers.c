/* Reads the best answers of an isolated reasoner without Python, as a controller in C or C++ would.
 *
 *   cc -std=c99 -O2 -I"$(python -c 'import anytime.ext as e; print(*e.__path__)')" read_answers.c -o read_answers
 *   ./read_answers PATH        where PATH is what Reasoner.slots_path says, like /proc/1234/fd/7
 *
 * Prints a line for every slot that holds an answer, and exits 1 where none does.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "anytime_slots.h"

int main(int argc, char **argv) {
    int found = 0, file = argc == 2 ? open(argv[1], O_RDONLY) : -1;
    struct stat about;
    void *memory;
    anytime_slots slots;
    char *text;
    uint32_t slot;
    if (file < 0 || fstat(file, &about) != 0) {
        fprintf(stderr, "usage: %s PATH, what Reasoner.slots_path says\n", argv[0]);
        return 2;
    }
    memory = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED || !anytime_slots_attach(&slots, memory, (size_t)about.st_size)) {
        fprintf(stderr, "%s does not hold answers of this version\n", argv[1]);
        return 2;
    }
    text = (char *)malloc(slots.header.answer_bytes); /* once: a control loop allocates nothing */
    for (slot = 0; text != NULL && slot < slots.header.slots; slot++) {
        anytime_answer answer;
        if (!anytime_read_answer(&slots, slot, 0, &answer, text, slots.header.answer_bytes)) continue;
        printf("slot %" PRIu32 " request %" PRIu64 " %s %s confidence %.6f published %" PRId64 " deadline %" PRId64
               " text %.*s\n",
               slot, answer.generation, answer.flags & ANYTIME_VALID ? "valid" : "none",
               answer.flags & ANYTIME_FINAL ? "final" : "so-far", answer.confidence, answer.published_ns,
               answer.deadline_ns, (int)answer.text_bytes, text);
        found++;
    }
    free(text);
    munmap(memory, (size_t)about.st_size);
    return found ? 0 : 1;
}
