/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMU_ORDERS_H
#define EMU_ORDERS_H

#include <stdint.h>

/*
 * What a test has ordered to go wrong, and how this machine is: one page that the server writes and
 * every emulated library reads, so that a call that nobody ordered anything about costs one load.
 *
 * A rule is about the calls of one name, counted over all processes from the order on. Names are
 * those of the documentation: cuMemAlloc stands for cuMemAlloc_v2 and for the _ptsz forms.
 */

#define EMU_RULE_MAX   32
#define EMU_NAME_BYTES 64

enum emu_rule_kind {
    EMU_RULE_FAIL = 1,  /* the n-th call answers the code */
    EMU_RULE_FAIL_FROM, /* it and every later one */
    EMU_RULE_HANG,      /* the n-th call does not return before the rules are cleared */
};

struct emu_rule {
    char name[EMU_NAME_BYTES];
    uint32_t kind;
    int32_t code;
    _Atomic int64_t calls_left;
};

#define EMU_MODE_WSL     1U /* NVML knows no processes' bytes */
#define EMU_MODE_UNIFIED 2U /* NVML knows no memory of its own */

struct emu_orders {
    _Atomic uint32_t generation; /* a futex: who hangs waits for it to change */
    _Atomic uint32_t rule_count; /* of the rules below, which are complete */
    _Atomic uint32_t lost_gpus;  /* a bit a gpu, by the server's numbers */
    uint32_t modes;
    _Atomic uint64_t injected_count; /* how often a rule struck */
    _Atomic uint32_t host_gbps[16];  /* 10^9 bytes a second, by the server's numbers; 0: at once */
    _Atomic uint32_t device_gbps[16];
    struct emu_rule rules[EMU_RULE_MAX];
};

/* In the libraries, which call it for every entry point: 0, or the code to answer. orders may be
 * NULL. Returns late where a hang was ordered. */
int32_t orders_check(struct emu_orders *orders, const char *function);

#endif
