/* As in the kernel, a file that has not defined its own prefix of log lines before its headers has none. */
#ifndef pr_fmt
#define pr_fmt(format) format
#endif
