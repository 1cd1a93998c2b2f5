/* tests/kernels/tiles_trap.h - a processor without a matrix unit answers its instructions with SIGILL. Here
 * they are done by the twin then (kernels/cpu/tiles_twin.h), with the registers and the memory they find: so
 * that what the compiler made of kernels/cpu/tiles.h is seen to run, operands, order and all. */
#pragma once

/* From now on, in all threads, each of which has its own tiles. Where the unit is there and the kernel
 * permits it, nothing traps and the unit answers. */
void test_tiles_trap(void);

/* Instructions done by the twin so far. */
long test_tiles_trapped(void);
