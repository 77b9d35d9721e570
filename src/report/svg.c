/* svg.c - line charts, bars and radars.  One coordinate system for all: 480 units wide, scaled by the page. */
#include "report/svg.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "report/text.h"

enum { WIDTH = 480, HEIGHT = 264, TOP = 10, BOTTOM = 44, RIGHT = 18, CHAR = 8, MAX_DRAWN = 1200 };

struct axis {
    double lo, hi, step;
    bool log;       /* lo and hi are then log10 */
    double at, len; /* in units of the drawing; len < 0: upwards */
};

static double place(const struct axis *a, double v)
{
    return a->at + ((a->log ? log10(v) : v) - a->lo) / (a->hi - a->lo) * a->len;
}

double slm2_svg_step(double lo, double hi, int n_tick)
{
    double raw = (hi - lo) / (n_tick > 0 ? n_tick : 1);
    if (!(raw > 0) || !isfinite(raw)) return 1;
    double power = pow(10, floor(log10(raw))), m = raw / power;
    return power * (m <= 1.0001 ? 1 : m <= 2.0001 ? 2 : m <= 5.0001 ? 5 : 10);
}

/* ---- ranges -------------------------------------------------------------------------------------------------------------- */
static bool drawable(const struct slm2_svg_chart *c, double x, double y)
{
    return isfinite(x) && isfinite(y) && (!c->y_log || y > 0);
}

static bool find_range(const struct slm2_svg_chart *c, struct axis *x, struct axis *y)
{
    double x_lo = DBL_MAX, x_hi = -DBL_MAX, y_lo = DBL_MAX, y_hi = -DBL_MAX;
    for (int k = 0; k < c->n_line; k++)
        for (int i = 0; i < c->line[k].n; i++) {
            double u = c->line[k].x[i], v = c->line[k].y[i];
            if (!drawable(c, u, v)) continue;
            x_lo = fmin(x_lo, u), x_hi = fmax(x_hi, u);
            y_lo = fmin(y_lo, v), y_hi = fmax(y_hi, v);
        }
    if (x_lo > x_hi) return false;
    for (int k = 0; k < c->n_rule; k++)
        if (drawable(c, 0, c->rule[k].y)) y_lo = fmin(y_lo, c->rule[k].y), y_hi = fmax(y_hi, c->rule[k].y);
    for (int k = 0; k < c->n_band; k++)
        if (isfinite(c->band[k].from) && isfinite(c->band[k].to)) x_lo = fmin(x_lo, c->band[k].from), x_hi = fmax(x_hi, c->band[k].to);
    if (c->scatter) {
        double room = 0.1 * (x_hi - x_lo);
        x_lo -= room, x_hi += room;
    }
    if (x_lo == x_hi) x_lo -= 1, x_hi += 1;
    *x = (struct axis){.lo = x_lo, .hi = x_hi, .step = fmax(slm2_svg_step(x_lo, x_hi, 6), 1)};
    y->log = c->y_log;
    if (y->log) {
        y->lo = log10(y_lo), y->hi = log10(y_hi);
        double pad = fmax((c->scatter ? 0.12 : 0.05) * (y->hi - y->lo), 0.05);
        y->lo -= pad, y->hi += pad;
        return true;
    }
    if (c->y_zero) y_lo = fmin(y_lo, 0), y_hi = fmax(y_hi, 0);
    if (y_lo == y_hi) {
        double half = y_lo == 0 ? 1 : fabs(y_lo) * 0.1;
        y_lo -= half, y_hi += half;
    }
    y->step = slm2_svg_step(y_lo, y_hi, 5);
    y->lo = floor(y_lo / y->step + 1e-9) * y->step;
    y->hi = ceil(y_hi / y->step - 1e-9) * y->step;
    if (c->n_band) y->hi += 0.09 * (y->hi - y->lo); /* room for the names of the bands */
    return true;
}

/* ---- ticks --------------------------------------------------------------------------------------------------------------- */
/* Values of an axis by one rule: from 10,000 on with a unit, tiny ones with an exponent, else as many decimals as the step has. */
static const char *tick_text(char *out, double v, double step, double top)
{
    if (fabs(v) < step * 1e-6) v = 0;
    if (v == 0) return memcpy(out, "0", 2);
    if (top >= 10000) {
        double unit = top >= 1e9 ? 1e9 : top >= 1e6 ? 1e6 : 1e3;
        snprintf(out, SLM2_TEXT_MAX, "%.*f%s", step < unit * 0.0999 ? 2 : step < unit * 0.999 ? 1 : 0, v / unit, unit >= 1e9 ? "G" : unit >= 1e6 ? "M" : "k");
    } else if (step < 9.9e-4) {
        snprintf(out, SLM2_TEXT_MAX, "%.3g", v);
    } else {
        int digits = step >= 0.999 ? 0 : (int)ceil(-log10(step) - 1e-6);
        snprintf(out, SLM2_TEXT_MAX, "%.*f", digits, v);
    }
    return out;
}

enum { MAX_TICK = 40 };
struct ticks {
    int n;
    double v[MAX_TICK];
    char text[MAX_TICK][SLM2_TEXT_MAX];
};

static void make_ticks(const struct axis *a, struct ticks *t)
{
    t->n = 0;
    if (a->log) {
        static const double part[] = {1, 2, 5};
        double span = a->hi - a->lo;
        int n_part = span < 1.6 ? 3 : 1, every = span > 8 ? 1 + (int)(span / 8) : 1;
        for (int e = (int)floor(a->lo); e <= (int)ceil(a->hi) && t->n < MAX_TICK - 3; e++) {
            for (int k = 0; k < n_part && e % every == 0; k++) {
                double v = part[k] * pow(10, e);
                if (log10(v) < a->lo || log10(v) > a->hi) continue;
                snprintf(t->text[t->n], SLM2_TEXT_MAX, "%g", v);
                t->v[t->n++] = v;
            }
        }
        return;
    }
    double first = ceil(a->lo / a->step - 1e-9), top = fmax(fabs(a->lo), fabs(a->hi));
    for (int i = 0; i < MAX_TICK; i++) {
        double v = (first + i) * a->step;
        if (v > a->hi + a->step * 1e-6) break;
        tick_text(t->text[t->n], v, a->step, top);
        t->v[t->n++] = v;
    }
}

/* ---- drawing --------------------------------------------------------------------------------------------------------------- */
static void put_bands(struct slm2_buf *b, const struct slm2_svg_chart *c, const struct axis *x, const struct axis *y)
{
    for (int k = 0; k < c->n_band; k++) {
        const struct slm2_svg_band *band = &c->band[k];
        if (!isfinite(band->from) || !isfinite(band->to)) continue;
        double from = place(x, band->from), to = place(x, band->to);
        slm2_buf_printf(b, "<rect class=\"band b%d\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%.1f\"/>", k % 4, from, TOP, fmax(to - from, 1), y->at - TOP);
        if (to - from < CHAR * (double)strlen(band->label) + 6) continue;
        slm2_buf_printf(b, "<text class=\"bl\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", (from + to) / 2, TOP + 13.0);
        slm2_html_escape(b, band->label);
        slm2_buf_puts(b, "</text>");
    }
}

static void put_axes(struct slm2_buf *b, const struct slm2_svg_chart *c, const struct axis *x, const struct axis *y, const struct ticks *tx, const struct ticks *ty)
{
    double right = x->at + x->len;
    slm2_buf_puts(b, "<g class=\"grid\">");
    for (int i = 0; i < ty->n; i++) slm2_buf_printf(b, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x->at, right, place(y, ty->v[i]), place(y, ty->v[i]));
    slm2_buf_puts(b, "</g><g class=\"tick\" text-anchor=\"end\">");
    for (int i = 0; i < ty->n; i++) slm2_buf_printf(b, "<text x=\"%.1f\" y=\"%.1f\">%s</text>", x->at - 7, place(y, ty->v[i]) + 4.5, ty->text[i]);
    slm2_buf_puts(b, "</g><g class=\"tick\" text-anchor=\"middle\">");
    for (int i = 0; i < tx->n; i++) slm2_buf_printf(b, "<text x=\"%.1f\" y=\"%.1f\">%s</text>", place(x, tx->v[i]), y->at + 18, tx->text[i]);
    slm2_buf_printf(b, "</g><line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x->at, right, y->at, y->at);
    if (c->x_label) {
        slm2_buf_printf(b, "<text class=\"xl\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", x->at + x->len / 2, HEIGHT - 6);
        slm2_html_escape(b, c->x_label);
        slm2_buf_puts(b, "</text>");
    }
}

static void put_point(struct slm2_buf *b, const struct axis *x, const struct axis *y, double u, double v, bool *pen_down)
{
    slm2_buf_printf(b, "%c%.1f %.1f", *pen_down ? 'L' : 'M', place(x, u), place(y, v));
    *pen_down = true;
}

/* A long line keeps the least and the greatest value of each piece, in their order: spikes stay. */
static void put_line(struct slm2_buf *b, const struct slm2_svg_chart *c, const struct slm2_svg_line *l, const struct axis *x, const struct axis *y)
{
    int piece = l->n > MAX_DRAWN ? (l->n + MAX_DRAWN / 2 - 1) / (MAX_DRAWN / 2) : 1;
    bool pen_down = false;
    slm2_buf_printf(b, "<path class=\"line c%d%s\" d=\"", l->color % SLM2_SVG_N_COLOR, l->faint ? " faint" : "");
    for (int i = 0; i < l->n; i += piece) {
        int least = -1, most = -1;
        for (int k = i; k < l->n && k < i + piece; k++) {
            if (!drawable(c, l->x[k], l->y[k])) continue;
            if (least < 0 || l->y[k] < l->y[least]) least = k;
            if (most < 0 || l->y[k] > l->y[most]) most = k;
        }
        if (least < 0) {
            pen_down = false;
            continue;
        }
        int first = least < most ? least : most, last = least < most ? most : least;
        put_point(b, x, y, l->x[first], l->y[first], &pen_down);
        if (last != first) put_point(b, x, y, l->x[last], l->y[last], &pen_down);
    }
    slm2_buf_puts(b, "\"/>");
    if (!l->marks && l->n > 1) return;
    if (l->n > 60) return;
    for (int i = 0; i < l->n; i++) {
        if (!drawable(c, l->x[i], l->y[i])) continue;
        char at[SLM2_TEXT_MAX], value[SLM2_TEXT_MAX];
        slm2_buf_printf(b, "<circle class=\"mark c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"%d\"><title>%s: %s</title></circle>", l->color % SLM2_SVG_N_COLOR, place(x, l->x[i]), place(y, l->y[i]), c->scatter ? 5 : 3,
                        slm2_text_real(at, l->x[i]), slm2_text_real(value, l->y[i]));
    }
}

static void put_key(struct slm2_buf *b, const char *kind, int color, const char *label, double value, const char *more)
{
    char text[SLM2_TEXT_MAX];
    slm2_buf_printf(b, "<span class=\"key\"><i class=\"%s %c%d\"></i>", kind, strcmp(kind, "area") ? 'c' : 'b', color);
    slm2_html_escape(b, label);
    if (isfinite(value)) slm2_buf_printf(b, " <b>%s</b>", slm2_text_real(text, value));
    if (more) slm2_buf_printf(b, " <small>%s</small>", more);
    slm2_buf_puts(b, "</span>");
}

static double last_value(const struct slm2_svg_line *l)
{
    for (int i = l->n - 1; i >= 0; i--)
        if (isfinite(l->y[i])) return l->y[i];
    return (double)NAN;
}

static void put_legend(struct slm2_buf *b, const struct slm2_svg_chart *c)
{
    char range[80];
    slm2_buf_puts(b, "<figcaption>");
    for (int k = 0; k < c->n_line; k++)
        if (c->line[k].label && c->line[k].n) put_key(b, c->line[k].faint ? "solid faint" : "solid", c->line[k].color % SLM2_SVG_N_COLOR, c->line[k].label, c->line[k].faint ? (double)NAN : last_value(&c->line[k]), NULL);
    for (int k = 0; k < c->n_rule; k++)
        if (isfinite(c->rule[k].y)) put_key(b, "dash", c->rule[k].color % SLM2_SVG_N_COLOR, c->rule[k].label, c->rule[k].y, NULL);
    for (int k = 0; k < c->n_band; k++) {
        snprintf(range, sizeof range, "%.0f\xE2\x80\x93%.0f", c->band[k].from, c->band[k].to);
        put_key(b, "area", k % 4, c->band[k].label, (double)NAN, range);
    }
    slm2_buf_puts(b, "</figcaption>");
}

static void open_figure(struct slm2_buf *b, const char *title, int height)
{
    slm2_buf_puts(b, "<figure><h3>");
    slm2_html_escape(b, title);
    slm2_buf_printf(b, "</h3><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, height);
    slm2_html_escape(b, title);
    slm2_buf_puts(b, "\">");
}

void slm2_svg_chart(struct slm2_buf *b, const struct slm2_svg_chart *c)
{
    struct axis x = {0}, y = {0};
    struct ticks tx, ty;
    size_t widest = 1;
    if (!find_range(c, &x, &y)) return;
    make_ticks(&x, &tx);
    make_ticks(&y, &ty);
    for (int i = 0; i < ty.n; i++) widest = strlen(ty.text[i]) > widest ? strlen(ty.text[i]) : widest;
    x.at = (double)(widest * CHAR + 12);
    x.len = WIDTH - RIGHT - x.at;
    y.at = HEIGHT - BOTTOM;
    y.len = TOP - y.at;
    open_figure(b, c->title, HEIGHT);
    put_bands(b, c, &x, &y);
    put_axes(b, c, &x, &y, &tx, &ty);
    for (int k = 0; k < c->n_rule; k++)
        if (drawable(c, 0, c->rule[k].y))
            slm2_buf_printf(b, "<line class=\"rule c%d\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", c->rule[k].color % SLM2_SVG_N_COLOR, x.at, x.at + x.len, place(&y, c->rule[k].y), place(&y, c->rule[k].y));
    for (int k = 0; k < c->n_line; k++) put_line(b, c, &c->line[k], &x, &y);
    slm2_buf_puts(b, "</svg>");
    put_legend(b, c);
    slm2_buf_puts(b, "</figure>");
}

void slm2_svg_bars(struct slm2_buf *b, const char *title, const char *value_name, const char *plan_name, const struct slm2_svg_bar *bar, int n)
{
    enum { ROW = 34, VALUE = 76, LEAST_CHARS = 13, MOST_CHARS = 26 };
    int chars = LEAST_CHARS; /* of the longest label that is not cut */
    for (int i = 0; i < n; i++) chars = strlen(bar[i].label) > (size_t)chars ? (int)strlen(bar[i].label) : chars;
    if (chars > MOST_CHARS) chars = MOST_CHARS;
    const int label = chars * CHAR + 14;
    double top = 0, room = WIDTH - label - VALUE;
    bool plan = false;
    for (int i = 0; i < n; i++) {
        if (isfinite(bar[i].value)) top = fmax(top, bar[i].value);
        if (isfinite(bar[i].plan)) top = fmax(top, bar[i].plan), plan = true;
    }
    if (n < 1) return;
    if (!(top > 0)) top = 1;
    open_figure(b, title, n * ROW + 8);
    for (int i = 0; i < n; i++) {
        char text[SLM2_TEXT_MAX];
        double y = 4 + i * ROW, value = isfinite(bar[i].value) && bar[i].value > 0 ? bar[i].value : 0;
        slm2_buf_printf(b, "<text class=\"bt\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", label - 10, y + ROW / 2.0 + 4.5);
        slm2_html_escape_short(b, bar[i].label, chars);
        slm2_buf_puts(b, "</text>");
        if (isfinite(bar[i].plan) && bar[i].plan > 0)
            slm2_buf_printf(b, "<rect class=\"plan\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>", label, y + 4, bar[i].plan / top * room, ROW - 8);
        slm2_buf_printf(b, "<rect class=\"bar c0\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>", label, y + 9, value / top * room, ROW - 18);
        slm2_buf_printf(b, "<text class=\"bv\" x=\"%.1f\" y=\"%.1f\">%s</text>", label + fmax(value, isfinite(bar[i].plan) ? bar[i].plan : 0) / top * room + 8, y + ROW / 2.0 + 4.5,
                        slm2_text_count(text, isfinite(bar[i].value) ? bar[i].value : bar[i].plan));
    }
    slm2_buf_puts(b, "</svg><figcaption>");
    put_key(b, "block", 0, value_name, (double)NAN, NULL);
    if (plan) {
        slm2_buf_puts(b, "<span class=\"key\"><i class=\"planned\"></i>");
        slm2_html_escape(b, plan_name);
        slm2_buf_puts(b, "</span>");
    }
    slm2_buf_puts(b, "</figcaption></figure>");
}

/* ---- radar --------------------------------------------------------------------------------------------------------------- */
enum { RADAR_HEIGHT = 362, RADIUS = 140, CENTRE_Y = 184, N_CIRCLE = 5 };
struct spot { double x, y; };

/* The first axis points up, the others follow clockwise. */
static struct spot on_axis(int i, int n_axis, double radius)
{
    double angle = 2 * acos(-1.0) * i / n_axis;
    return (struct spot){WIDTH / 2.0 + radius * sin(angle), CENTRE_Y - radius * cos(angle)};
}

static void put_web(struct slm2_buf *b, const char *const *axis, int n_axis, double top)
{
    char text[SLM2_TEXT_MAX];
    slm2_buf_puts(b, "<g class=\"grid\">");
    for (int k = 1; k <= N_CIRCLE; k++) {
        slm2_buf_puts(b, "<polygon points=\"");
        for (int i = 0; i < n_axis; i++) {
            struct spot p = on_axis(i, n_axis, (double)RADIUS * k / N_CIRCLE);
            slm2_buf_printf(b, "%.1f,%.1f ", p.x, p.y);
        }
        slm2_buf_puts(b, "\"/>");
    }
    for (int i = 0; i < n_axis; i++) {
        struct spot p = on_axis(i, n_axis, RADIUS);
        slm2_buf_printf(b, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%.1f\"/>", WIDTH / 2.0, CENTRE_Y, p.x, p.y);
    }
    slm2_buf_puts(b, "</g><g class=\"tick\" text-anchor=\"end\">");
    for (int k = 1; k <= N_CIRCLE; k++)
        slm2_buf_printf(b, "<text class=\"bl\" x=\"%.1f\" y=\"%.1f\">%s</text>", WIDTH / 2.0 - 4, CENTRE_Y - (double)RADIUS * k / N_CIRCLE + 4, slm2_text_real(text, top * k / N_CIRCLE));
    slm2_buf_puts(b, "</g>");
    for (int i = 0; i < n_axis; i++) {
        struct spot p = on_axis(i, n_axis, RADIUS + 12);
        double side = (p.x - WIDTH / 2.0) / RADIUS;
        slm2_buf_printf(b, "<text class=\"bt\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", p.x, p.y + 4.5 + (fabs(side) < 0.1 ? p.y < CENTRE_Y ? -8 : 8 : 0), side > 0.1 ? "start" : side < -0.1 ? "end" : "middle");
        slm2_html_escape_short(b, axis[i], 14);
        slm2_buf_puts(b, "</text>");
    }
}

static void put_ring(struct slm2_buf *b, const struct slm2_svg_ring *r, const char *const *axis, int n_axis, double top)
{
    char text[SLM2_TEXT_MAX];
    int n = 0, color = r->color % SLM2_SVG_N_COLOR;
    struct slm2_buf points = {0};
    for (int i = 0; i < n_axis; i++) {
        if (!isfinite(r->v[i])) continue;
        struct spot p = on_axis(i, n_axis, RADIUS * fmin(fmax(r->v[i] / top, 0), 1));
        slm2_buf_printf(&points, "%.1f,%.1f ", p.x, p.y);
        n++;
    }
    if (points.failed) b->failed = true;
    else if (n > 0) slm2_buf_printf(b, "<polygon class=\"mark wash c%d\" points=\"%s\"/><polygon class=\"line c%d\" points=\"%s\"/>", color, points.v, color, points.v);
    slm2_buf_free(&points);
    for (int i = 0; i < n_axis; i++) {
        if (!isfinite(r->v[i])) continue;
        struct spot p = on_axis(i, n_axis, RADIUS * fmin(fmax(r->v[i] / top, 0), 1));
        slm2_buf_printf(b, "<circle class=\"mark c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>", color, p.x, p.y);
        slm2_html_escape(b, axis[i]);
        slm2_buf_printf(b, ": %s</title></circle>", slm2_text_real(text, r->v[i]));
    }
}

void slm2_svg_radar(struct slm2_buf *b, const char *title, const char *const *axis, int n_axis, double top, const struct slm2_svg_ring *ring, int n_ring)
{
    bool any = false;
    for (int k = 0; k < n_ring; k++)
        for (int i = 0; i < n_axis; i++) any = any || isfinite(ring[k].v[i]);
    if (!any || n_axis < 3 || !(top > 0)) return;
    open_figure(b, title, RADAR_HEIGHT);
    put_web(b, axis, n_axis, top);
    for (int k = 0; k < n_ring; k++) put_ring(b, &ring[k], axis, n_axis, top);
    slm2_buf_puts(b, "</svg><figcaption>");
    for (int k = 0; k < n_ring; k++) put_key(b, "solid", ring[k].color % SLM2_SVG_N_COLOR, ring[k].label, (double)NAN, NULL);
    slm2_buf_puts(b, "</figcaption></figure>");
}
