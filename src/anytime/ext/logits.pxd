cdef long argmax(const float *logits, long vocab) noexcept nogil
