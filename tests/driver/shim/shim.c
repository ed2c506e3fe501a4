/* The functions behind kernel.h. */
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define REGISTERS 9
#define LARGEST_BLOCK (4UL << 20) /* what kmalloc can give with pages of 4 KiB */
#define NO_MEMORY ((void *)16) /* what kmalloc gives to who asks for nothing */
#define UNUSED 0xDEADBEEFDEADBEEFUL /* what nobody has set in a register is not zero on the machine either */

struct shim shim;

unsigned long roundup_pow_of_two(unsigned long size)
{
	unsigned long power = 1;

	while (power < size)
		power <<= 1;
	return power;
}

/* Blocks are aligned to the next power of two: that is what the kernel promises for powers of two. */
void *kzalloc(size_t size, gfp_t flags)
{
	size_t room;
	void *block;

	if (size == 0)
		return NO_MEMORY;
	if (size > LARGEST_BLOCK)
		return NULL;
	room = roundup_pow_of_two(size < 16 ? 16 : size);
	if (shim.allocations_left >= 0 && shim.allocations_left-- == 0)
		return NULL;
	block = aligned_alloc(room, room);
	if (block) {
		memset(block, 0, room);
		shim.allocated++;
	}
	return block;
}

void kfree(const void *block)
{
	if (!block || block == NO_MEMORY)
		return;
	shim.allocated--;
	free((void *)block);
}

void kfree_sensitive(const void *block)
{
	if (block && block != NO_MEMORY)
		explicit_bzero((void *)block, malloc_usable_size((void *)block));
	kfree(block);
}

void shim_print(int level, const char *format, ...)
{
	char line[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	shim.print(level, line);
}

long shim_hcall(unsigned long opcode, unsigned long *returned, int results, const unsigned long *arguments,
		unsigned long count)
{
	unsigned long in[REGISTERS], out[REGISTERS];
	long status;

	for (unsigned long i = 0; i < REGISTERS; i++)
		in[i] = i < count ? arguments[i] : UNUSED;
	status = shim.hcall(opcode, in, count, out);
	memcpy(returned, out, results * sizeof(*out));
	return status;
}
