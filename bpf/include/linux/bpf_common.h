/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Instruction classes: only assemblers need them. */
