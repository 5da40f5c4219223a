/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* BCC passes this file to every compile with -include. */
#define CONFIG_BPF_SYSCALL 1
