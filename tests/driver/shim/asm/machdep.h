/*
 * Reached after asm/hvcall.h, which declares the h-calls with "...": there each argument is made a whole
 * register, as the calling convention of the platform does it, and counted.
 */
long shim_hcall(unsigned long opcode, unsigned long *returned, int results, const unsigned long *arguments,
		unsigned long count);
#define SHIM_HCALL(opcode, returned, results, ...)                         \
	shim_hcall(opcode, returned, results, (unsigned long[]){ __VA_ARGS__ }, \
		   sizeof((unsigned long[]){ __VA_ARGS__ }) / sizeof(unsigned long))
#define plpar_hcall(opcode, returned, ...) SHIM_HCALL(opcode, returned, 4, __VA_ARGS__)
#define plpar_hcall9(opcode, returned, ...) SHIM_HCALL(opcode, returned, 9, __VA_ARGS__)
