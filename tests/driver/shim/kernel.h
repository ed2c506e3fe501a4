/*
 * What plpks.c and plpks_sed_ops.c expect of the kernel around them, for a shared library of user space. It is
 * included before their first line; the linux/ headers that the driver names are then empty.
 *
 * Guest memory is the memory of the process, so a logical real address is a pointer. What leaves the driver
 * (h-calls, sleep, log lines) goes through the functions of `struct shim`, which the tests fill in.
 */
#include <errno.h>
#include <libfdt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h> /* u_char, u_int and u_long */

typedef uint8_t u8, __u8;
typedef uint16_t u16, __be16;
typedef int16_t s16;
typedef uint32_t u32, __be32;
typedef int32_t s32;
typedef uint64_t u64, __be64;
typedef int64_t s64;
typedef unsigned int gfp_t;
struct kobject;

struct shim {
	long (*hcall)(unsigned long opcode, const unsigned long *arguments, unsigned long count,
		      unsigned long *returned);
	void (*sleep)(unsigned long microseconds);
	void (*print)(int level, const char *line);
	void (*verify_fdt)(void);
	void *fdt;
	unsigned long features;
	long allocations_left; /* below 0: memory does not run out */
	long allocated;        /* blocks in use */
};
extern struct shim shim;

/* memory */
#define GFP_KERNEL 0
#define SMP_CACHE_BYTES 128
#define virt_to_phys(address) ((unsigned long)(address))
#define __pa(address) virt_to_phys(address)
void *kzalloc(size_t size, gfp_t flags);
void kfree(const void *block);
void kfree_sensitive(const void *block);
#define memblock_alloc_raw(size, alignment) kzalloc(size, GFP_KERNEL)

/* numbers */
#define cpu_to_be16(value) __builtin_bswap16(value)
#define cpu_to_be32(value) __builtin_bswap32(value)
#define cpu_to_be64(value) __builtin_bswap64(value)
#define be16_to_cpu(value) __builtin_bswap16(value)
#define be32_to_cpu(value) __builtin_bswap32(value)
#define be64_to_cpu(value) __builtin_bswap64(value)
#define PPC_BIT(bit) (1UL << (63 - (bit)))
#define PPC_BIT32(bit) (1U << (31 - (bit)))
#define PPC_BIT8(bit) (0x80U >> (bit))
#define BIT(bit) (1UL << (bit))
#define BIT_ULL(bit) (1ULL << (bit))
#define GENMASK_ULL(high, low) ((~0ULL >> (63 - (high))) & (~0ULL << (low)))
#define FIELD_PREP(mask, value) (((u64)(value) << __builtin_ctzll(mask)) & (mask))
#define ALIGN(size, boundary) (((size) + (boundary) - 1) & ~((boundary) - 1))
#define min_t(type, one, other) ((type)(one) < (type)(other) ? (type)(one) : (type)(other))
#define USEC_PER_SEC 1000000L
unsigned long roundup_pow_of_two(unsigned long size);

/* the language of the kernel */
#define __init
#define __packed __attribute__((packed))
#define __aligned(boundary) __attribute__((aligned(boundary)))
#define EXPORT_SYMBOL_GPL(name)
#define struct_size(pointer, member, count) (sizeof(*(pointer)) + (count) * sizeof(*(pointer)->member))
#define offsetofend(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))
#define ERR_PTR(error) ((void *)(long)(error))
#define PTR_ERR(pointer) ((long)(pointer))
#define IS_ERR(pointer) ((unsigned long)(pointer) >= -4095UL)

/* time and log */
#define fsleep(microseconds) shim.sleep(microseconds)
#define usleep_range(least, most) shim.sleep(least)
#define msleep(milliseconds) shim.sleep((milliseconds) * 1000UL)
__attribute__((format(printf, 2, 3))) void shim_print(int level, const char *format, ...);
#define pr_err(format, ...) shim_print(3, pr_fmt(format), ##__VA_ARGS__)
#define pr_warn(format, ...) shim_print(4, pr_fmt(format), ##__VA_ARGS__)
#define pr_info(format, ...) shim_print(6, pr_fmt(format), ##__VA_ARGS__)
#define pr_debug(format, ...) shim_print(7, pr_fmt(format), ##__VA_ARGS__)

/* firmware and start */
#define FW_FEATURE_LPAR 1UL
#define FW_FEATURE_PLPKS 2UL
#define firmware_has_feature(feature) ((shim.features & (feature)) != 0)
#define initial_boot_params shim.fdt
#define early_init_dt_verify(fdt, address) shim.verify_fdt()
#define machine_arch_initcall(machine, function) int shim_initcall(void) { return function(); }
