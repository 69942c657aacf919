#include "arrivals.h"

#include <math.h>

/* splitmix64 (Steele, Lea, Flood 2014): one addition and one mix a number, any seed is good. */
static uint64_t random_u64(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double exponential_gap_s(uint64_t *state, double rate_rps) {
    double u = (double)((random_u64(state) >> 11) + 1) * 0x1p-53; /* 0 < u <= 1 */
    return -log(u) / rate_rps;
}

/* Inverse of the cumulative arrivals: from_rps before the window, a straight ramp in it, rate_rps after it. */
static double ramp_instant_s(const struct mg_schedule *plan, double nth) {
    double before_s = (double)(plan->window_start_ns - plan->start_ns) * 1e-9;
    double ramp_s = (double)(plan->window_end_ns - plan->window_start_ns) * 1e-9;
    double from = plan->ramp_from_rps, to = plan->rate_rps;
    double before = from * before_s;
    double during = (from + to) / 2 * ramp_s;
    if (nth < before)
        return nth / from;
    nth -= before;
    if (nth >= during)
        return before_s + ramp_s + (nth - during) / to;
    double slope = (to - from) / ramp_s;
    /* nth = from t + slope t^2 / 2, in the form that stays exact for slopes near 0 */
    return before_s + 2 * nth / (from + sqrt(from * from + 2 * slope * nth));
}

void arrivals_init(struct arrivals *arrivals, const struct mg_schedule *plan) {
    arrivals->plan = *plan;
    arrivals->index = 0;
    arrivals->random_state = plan->seed;
    arrivals->next_s = 0;
}

int64_t arrivals_next(struct arrivals *arrivals) {
    const struct mg_schedule *plan = &arrivals->plan;
    uint64_t index = arrivals->index++;
    double instant_s;
    switch (plan->arrival) {
    case MG_POISSON:
        arrivals->next_s += exponential_gap_s(&arrivals->random_state, plan->rate_rps);
        instant_s = arrivals->next_s;
        break;
    case MG_BURST:
        instant_s = (double)(index / plan->burst_requests) * (double)plan->burst_requests / plan->rate_rps;
        break;
    case MG_RAMP:
        instant_s = ramp_instant_s(plan, (double)index + plan->phase);
        break;
    default:
        instant_s = ((double)index + plan->phase) / plan->rate_rps;
        break;
    }
    return plan->start_ns + (int64_t)(instant_s * 1e9);
}

void mg_arrivals(const struct mg_schedule *schedule, int64_t *out_ns, uint64_t count) {
    struct arrivals arrivals;
    arrivals_init(&arrivals, schedule);
    for (uint64_t i = 0; i < count; i++)
        out_ns[i] = arrivals_next(&arrivals) - schedule->start_ns;
}
