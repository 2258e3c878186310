/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_ATTRIBUTION_H
#define DAEMON_ATTRIBUTION_H

#include <stddef.h>

#include "budget/budget.h"
#include "daemon/gpu.h"
#include "wire/facts.h"

/*
 * Attribution: whose bytes are whose. Each process that the driver shows on a gpu belongs to the
 * innermost lease among its ancestors that has a part on that gpu, else it is foreign. Where one
 * process tree holds several leases, its bytes go to them in turn, each up to its charge, living
 * ones before draining ones; what is left over is the overdraft of the first.
 */

/* Both results are owned by the caller (free). */
struct attribution {
    struct budget_measure *measured;
    size_t measured_count;
    struct foreign_process *foreign; /* largest first */
    size_t foreign_count;
};

int attribution_make(struct daemon *daemon, uint32_t gpu, const struct facts_gpu *facts,
                     struct attribution *ret_attribution);

#endif
