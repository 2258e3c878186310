/* SPDX-License-Identifier: Apache-2.0 */

#include "orders.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* cuMemAlloc_v2 and cuMemAllocAsync_ptsz are cuMemAlloc and cuMemAllocAsync. */
static bool is_named(const char *function, const char *name)
{
    const size_t length = strlen(name);

    return strncmp(function, name, length) == 0 &&
           (function[length] == '\0' || strncmp(function + length, "_v", 2) == 0 ||
            strncmp(function + length, "_pt", 3) == 0);
}

static void hang(struct emu_orders *orders, uint32_t generation)
{
    const int saved_errno = errno;

    while (atomic_load(&orders->generation) == generation)
        (void)syscall(SYS_futex, &orders->generation, FUTEX_WAIT, generation, NULL, NULL, 0);
    errno = saved_errno;
}

int32_t orders_check(struct emu_orders *orders, const char *function)
{
    if (!orders)
        return 0;
    const uint32_t count = atomic_load_explicit(&orders->rule_count, memory_order_acquire);
    if (count == 0)
        return 0;
    const uint32_t generation = atomic_load(&orders->generation);
    for (uint32_t i = 0; i < count && i < EMU_RULE_MAX; i++) {
        struct emu_rule *const rule = &orders->rules[i];
        if (!is_named(function, rule->name))
            continue;
        const int64_t left = atomic_fetch_sub(&rule->calls_left, 1);
        if (left != 1 && (rule->kind != EMU_RULE_FAIL_FROM || left > 1))
            continue;
        (void)atomic_fetch_add(&orders->injected_count, 1);
        if (rule->kind != EMU_RULE_HANG)
            return rule->code;
        hang(orders, generation);
    }
    return 0;
}
