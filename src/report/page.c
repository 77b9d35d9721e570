/* page.c - what every page has: the look, the frame, the parts of tables. */
#include "report/page.h"

#include <string.h>

#include "report/text.h"

/* the look of text and tables, then of the charts */
static const char style_page[] =
    ":root{--bg:#f7f6f3;--card:#fff;--fg:#1d2127;--mut:#5d6570;--rule:#dedbd4;--c0:#2463b0;--c1:#c8501a;--c2:#1b8a52;--c3:#7a49b8;--c4:#a87600;--c5:#0b7f92;--c6:#b83273;--c7:#6b7280;--plan:#c9d6e8}"
    "@media(prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1c1f25;--fg:#e4e6ea;--mut:#9aa2ad;--rule:#343942;--c0:#6aa7f0;--c1:#f28b52;--c2:#5cc98d;--c3:#b794f0;--c4:#dcb04a;--c5:#5cc6d6;--c6:#ef86b6;--c7:#a0a7b2;--plan:#33435a}}"
    "*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}"
    "body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}"
    "main{max-width:1080px;margin:0 auto;padding:28px 20px 64px}h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px}"
    "h2{font-size:1.25rem;margin:44px 0 12px;padding-top:14px;border-top:1px solid var(--rule)}h3{font-size:.95rem;font-weight:600;margin:0 0 8px}"
    "p{margin:8px 0;max-width:46em}.mut,.sub{color:var(--mut)}.sub{font-size:.9rem;overflow-wrap:anywhere}a{color:var(--c0)}"
    "nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin:14px 0 22px;font-size:.92rem}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:12px;margin:18px 0}"
    ".tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 14px}.tile b{display:block;font-size:1.3rem;line-height:1.3;font-weight:600}.tile span{font-size:.82rem;color:var(--mut)}"
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px;margin:14px 0}"
    ".scroll{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:8px;margin:12px 0}table{border-collapse:collapse;width:100%;font-size:.9rem}"
    "th,td{padding:7px 12px;text-align:left;border-top:1px solid var(--rule);vertical-align:top}thead th{border-top:0;color:var(--mut);font-weight:500;white-space:nowrap}tbody th{font-weight:500;min-width:7.5em}"
    ".n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.hash,code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.8rem}.path{overflow-wrap:anywhere;min-width:13em}.hash{overflow-wrap:anywhere;min-width:17em;color:var(--mut)}tfoot td,tfoot th{font-weight:600;text-align:left}tfoot .n{text-align:right}"
    "details{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:8px 14px;margin:10px 0}summary{cursor:pointer;font-weight:500}details .scroll{border:0;margin:6px -14px -8px}pre{overflow-x:auto;margin:10px 0 4px;line-height:1.45}"
    ".formula{background:var(--card);border:1px solid var(--rule);border-left:3px solid var(--c0);border-radius:6px;padding:10px 14px;overflow-wrap:anywhere}"
    ".dot{display:inline-block;width:10px;height:10px;border-radius:50%;background:currentColor;margin-right:7px}.best{font-weight:700}.wrap{white-space:normal;overflow-wrap:anywhere;min-width:6em}"
    "footer{margin-top:44px;color:var(--mut);font-size:.85rem}";
static const char style_chart[] =
    "figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:14px 16px}svg{display:block;width:100%;height:auto;overflow:visible}"
    "svg text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif;fill:var(--mut);font-variant-numeric:tabular-nums}svg .bt,svg .bv{fill:var(--fg)}svg .bl{font-size:12px}"
    "g.grid line,g.grid polygon{fill:none;stroke:var(--rule);stroke-width:1}.wash{opacity:.14}.axis{stroke:var(--mut);stroke-width:1}.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    ".faint{opacity:.3}.line.faint{stroke-width:1}.rule{stroke-width:1.6;stroke-dasharray:6 5}"
    ".line.c0,.rule.c0{stroke:var(--c0)}.line.c1,.rule.c1{stroke:var(--c1)}.line.c2,.rule.c2{stroke:var(--c2)}.line.c3,.rule.c3{stroke:var(--c3)}.line.c4,.rule.c4{stroke:var(--c4)}.line.c5,.rule.c5{stroke:var(--c5)}.line.c6,.rule.c6{stroke:var(--c6)}.line.c7,.rule.c7{stroke:var(--c7)}"
    ".mark.c0,.bar.c0{fill:var(--c0)}.mark.c1{fill:var(--c1)}.mark.c2{fill:var(--c2)}.mark.c3{fill:var(--c3)}.mark.c4{fill:var(--c4)}.mark.c5{fill:var(--c5)}.mark.c6{fill:var(--c6)}.mark.c7{fill:var(--c7)}"
    ".band{opacity:.13}.band.b0{fill:var(--c4)}.band.b1{fill:var(--c5)}.band.b2{fill:var(--c3)}.band.b3{fill:var(--c1)}.plan{fill:var(--plan)}"
    "figcaption{display:flex;flex-wrap:wrap;gap:2px 16px;margin-top:8px;font-size:.84rem;color:var(--mut)}.key{white-space:nowrap}.key b{color:var(--fg);font-weight:600;font-variant-numeric:tabular-nums}"
    ".key i{display:inline-block;width:18px;margin-right:6px;vertical-align:middle;border-top:2.5px solid}.key i.dash{border-top-style:dashed}.key i.area,.key i.block,.key i.planned{height:10px;border:0;border-radius:2px}"
    "i.c0{color:var(--c0)}i.c1{color:var(--c1)}i.c2{color:var(--c2)}i.c3{color:var(--c3)}i.c4{color:var(--c4)}i.c5{color:var(--c5)}i.c6{color:var(--c6)}i.c7{color:var(--c7)}i.block{background:currentColor}.key i.planned{background:var(--plan)}"
    "i.area{opacity:.45}i.b0{background:var(--c4)}i.b1{background:var(--c5)}i.b2{background:var(--c3)}i.b3{background:var(--c1)}"
    "@media(max-width:560px){main{padding:18px 12px 48px}.tiles{grid-template-columns:1fr 1fr;gap:8px}figure{padding:12px 8px}svg text{font-size:16px}svg .bl{font-size:14px}th,td{padding:7px 9px}}"
    "@media print{body{background:#fff}figure,.tile,tr{break-inside:avoid}}";

/* ---- small parts ------------------------------------------------------------------------------------------------------------ */
void slm2_page_cell(struct slm2_buf *b, const char *class, const char *text)
{
    slm2_buf_printf(b, "<td class=\"%s\">", class);
    slm2_html_escape(b, *text ? text : "\xE2\x80\x93");
    slm2_buf_puts(b, "</td>");
}

void slm2_page_cell_real(struct slm2_buf *b, double v)
{
    char s[SLM2_TEXT_MAX];
    slm2_page_cell(b, "n", slm2_text_real(s, v));
}

void slm2_page_row(struct slm2_buf *b, const char *text)
{
    slm2_buf_puts(b, "<tr><th>");
    slm2_html_escape(b, text);
    slm2_buf_puts(b, "</th>");
}

void slm2_page_table(struct slm2_buf *b, const char *heads)
{
    slm2_buf_puts(b, "<div class=\"scroll\"><table><thead><tr>");
    for (const char *s = heads; *s; s += *s == '|') {
        size_t n = strcspn(s, "|");
        bool number = *s == '#';
        slm2_buf_printf(b, "<th%s>%.*s</th>", number ? " class=\"n\"" : "", (int)n - number, s + number);
        s += n;
    }
    slm2_buf_puts(b, "</tr></thead><tbody>");
}

void slm2_page_table_end(struct slm2_buf *b)
{
    slm2_buf_puts(b, "</tbody></table></div>");
}

void slm2_page_tile(struct slm2_buf *b, const char *name, const char *value)
{
    slm2_buf_puts(b, "<div class=\"tile\"><b>");
    slm2_html_escape(b, value);
    slm2_buf_puts(b, "</b><span>");
    slm2_html_escape(b, name);
    slm2_buf_puts(b, "</span></div>");
}

void slm2_page_heading(struct slm2_buf *b, const char *id, const char *text)
{
    slm2_buf_printf(b, "<h2 id=\"%s\">", id);
    slm2_html_escape(b, text);
    slm2_buf_puts(b, "</h2>");
}

void slm2_page_start(struct slm2_buf *b, const char *title)
{
    slm2_buf_puts(b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>"
                     "<meta name=\"color-scheme\" content=\"light dark\"/><title>");
    slm2_html_escape(b, title);
    slm2_buf_puts(b, "</title><style>");
    slm2_buf_puts(b, style_page);
    slm2_buf_puts(b, style_chart);
    slm2_buf_puts(b, "</style></head><body><main><h1>");
    slm2_html_escape(b, title);
    slm2_buf_puts(b, "</h1>");
}

void slm2_page_end(struct slm2_buf *b)
{
    slm2_buf_puts(b, "<footer>slm2 " SLM2_VERSION ", from the ledgers of the runs</footer></main></body></html>\n");
}
