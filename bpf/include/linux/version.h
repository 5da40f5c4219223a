/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* BCC asks for a version only to choose between its own code paths: 6.1 has all that is used. */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(6, 1, 0)
