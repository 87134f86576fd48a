/* SPDX-License-Identifier: MIT */
/* config.h - the results of libcheck's configure script; the same with glibc and musl */
#define HAVE_DECL_ALARM       1
#define HAVE_DECL_LOCALTIME_R 1
#define HAVE_DECL_SETENV      1
#define HAVE_DECL_STRDUP      1
#define HAVE_DECL_STRSIGNAL   1
#define HAVE_FORK             1
#define HAVE_GETLINE          1
#define HAVE_GETTIMEOFDAY     1
#define HAVE_LIBRT            1
#define HAVE_MALLOC           1
#define HAVE_MKSTEMP          1
#define HAVE_PTHREAD          1
#define HAVE_REALLOC          1
#define HAVE_SIGACTION        1
#define HAVE_SNPRINTF         1
#define HAVE_STDARG_H         1
#define HAVE_STDINT_H         1
#define HAVE_SYS_TIME_H       1
#define HAVE_SYS_WAIT_H       1
#define HAVE_UNISTD_H         1
#define HAVE_VSNPRINTF        1
