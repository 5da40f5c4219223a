/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#include <linux/types.h>
#include "bcc/bpf.h" /* the copy inside libbcc */
