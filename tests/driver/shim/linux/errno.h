/* The C library's errno.h comes here as well. */
#include <asm-generic/errno.h>
