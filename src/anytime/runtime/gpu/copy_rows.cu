// Rows of keys and values from one place on the GPU to another, the buffers of all layers in one launch.
//
// to, from: addresses of one buffer for each layer's keys and values, [row, head, position, unit], units of 16 bytes.
// at: position of the first token in each row of `to`, or null for 0. What would lie behind `to_length` is left out.
// Grid: x covers tokens * units, y = rows * heads, z = buffers.
//
// copy_rows.ptx is this file compiled by NVRTC 12.1 with --gpu-architecture=compute_75, less its unused constants.

typedef unsigned long long u64;

extern "C" __global__ void copy_rows(const u64 *to, const u64 *from, const long long *at, u64 to_row, u64 to_length,
                                     u64 from_row, u64 from_length, u64 heads, u64 tokens, u64 units)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= tokens * units)
        return;
    u64 row = blockIdx.y / (unsigned)heads, head = blockIdx.y % (unsigned)heads;
    u64 token = i / (unsigned)units, unit = i % (unsigned)units;
    u64 place = (at ? (u64)at[row] : 0) + token;
    if (place >= to_length)
        return;
    uint4 *target = (uint4 *)to[blockIdx.z] + (((to_row + row) * heads + head) * to_length + place) * units + unit;
    const uint4 *source =
        (const uint4 *)from[blockIdx.z] + (((from_row + row) * heads + head) * from_length + token) * units + unit;
    *target = *source;
}
