#!/usr/bin/env python3
"""What transformers makes of chats with templates in the manner of several model families; the templates are our own.

    chat_templates.py               writes engine/tokenizer/testdata/templates/chats.jsonl anew
    chat_templates.py check DIR...  compares bin/lpipe with transformers on these chats and the *.jinja files of the folders

Needs transformers (5.23 made what is committed).
"""
import json, subprocess, sys, tempfile
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

ROOT = Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "engine" / "tokenizer" / "testdata"
NAMES = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}

TEMPLATES = {
    # Headers, trimmed content, tools as indented JSON, a date, a tool role: in the manner of Llama 3.
    "headers": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 May 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system text comes first. -#}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_text = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_text = "" %}
{%- endif %}
{{- "<|head|>system<|/head|>\\n\\nToday: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "Functions:\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_text }}
{{- "<|im_end|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|head|>' + message['role'] + '<|/head|>\\n\\n'+ message['content'] | trim + '<|im_end|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("Only one call at a time is supported here!") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|head|>assistant<|/head|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}<|im_end|>" }}
    {%- else %}
        {{- "<|head|>result<|/head|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|im_end|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|/head|>\\n\\n' }}
{%- endif %}
""",
    # Thoughts of earlier answers left out: in the manner of Qwen3.
    "thoughts": """{%- set ns = namespace(many=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.many and message.role == "user" and message.content is string and not(message.content.startswith('<result>') and message.content.endswith('</result>')) %}
        {%- set ns.many = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and thought)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
                {%- if call.function %}{%- set call = call.function %}{%- endif %}
                {{- '<tool_call>\\n{"name": "' }}{{- call.name }}{{- '", "arguments": ' }}
                {%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<result>\\n' + content + '\\n</result>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}""",
    # White space that trim_blocks and lstrip_blocks decide about, and {% generation %}.
    "generation": """{% for message in messages %}
    {% if message.role == 'assistant' %}
<|im_start|>assistant
{% generation %}
{{ message.content }}<|im_end|>
{% endgeneration %}
    {% else %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}""",
    # Alternating roles or an error, no roles in the text: in the manner of Mistral.
    "brackets": """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set first = messages[0]['content'] + '\\n\\n' %}\
{% else %}{% set loop_messages = messages %}{% set first = '' %}{% endif %}{% for message in loop_messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}\
{% if loop.first %}{% set content = first ~ message.content %}{% else %}{% set content = message.content %}{% endif %}\
{% if message['role'] == 'user' %}{{ '[INST] ' + content | trim + ' [/INST]' }}{% else %}{{ ' ' ~ content ~ eos_token }}{% endif %}{% endfor %}""",
    # What templates use of Python and Jinja besides.
    "various": """{% macro line(name, value='none') %}{{ name|upper ~ ': ' ~ value }}
{% endmacro %}{% for m in messages if m.role != 'tool' %}{{ line(m.role, m.content | replace('a', 'A')) }}{% else %}nothing{% endfor %}
{% set x = {'b': 1, 'a': [1, 2.0, none, true]} %}{{ x | tojson }} {{ x.items() | list | length }} {{ x.get('c', 'd') }} {{ x['a'][-1] }}
{% for k, v in x.items() %}{{ k }}={{ v | tojson }};{% endfor %} {{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ '%s-%d' | format('a', 3) }} {{ ['b', 'a'] | sort | first }} {{ 'a b c'.split() | last }} {{ 'Title case'.title() }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 'a b'.split('x')[-1] }} {{ 'äöü'[1] }} {{ {4: 'four'}[4] }} {{ [[1]][-1][-1] }} {{ 1 if false else 2 }} {{ 'x' * 3 }}
{{ 'é'.upper() }} {{ ' a '.strip() }}| {{ 'abc'[1:] }} {{ 'abc'[::-1] }} {{ undefined_name }}{{ undefined_name is defined }} {{ none is none }} {{ 3 in [1, 2, 3] }} {{ 'b' not in 'abc' }} {{ '<b>' }}
{%- for i in range(3) %}{% if i == 2 %}{% break %}{% endif %} {{ loop.index }}/{{ loop.length }}{% endfor %}
{%  raw %}{{ not }}{% endraw %} {{ messages[-1].content | length }} {{ add_generation_prompt }}""",
}


def tool(name, **more):
    return {"type": "function", "function": {"name": name, "description": "it's <b> & é", "parameters": {"type": "object", "properties": {"z": {"type": "integer"}, "a": {"type": "number", "default": 1e-07}}, "required": []}} | more}


def call(name, arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def turn(role, content, **more):
    return {"role": role, "content": content} | more


CHATS = [
    {"messages": [turn("user", " How many?\n")], "add_generation_prompt": True},
    {"messages": [turn("system", " Be brief. "), turn("user", "a"), turn("assistant", "<think>\n\nhm\n</think>\n\nb"), turn("user", "c\n"), turn("assistant", "<think>\nno\n</think>\n\nd é\n")]},
    {"messages": [turn("user", "x"), turn("assistant", "y <|im_end|> z"), turn("user", "{{ messages }} {% if %}"), turn("assistant", "")], "add_generation_prompt": True},
    {"messages": [turn("user", "w?"), turn("assistant", "", tool_calls=[call("f", {"z": 1, "a": [1.5, "<é>", None, True, 1e-07]})]), turn("tool", "r1"), turn("assistant", "ok")], "tools": [tool("f")]},
    {"messages": [turn("system", "s"), turn("user", "w?"), turn("assistant", "both", tool_calls=[call("f", {}), call("g", {"k": "it's"})]), turn("tool", "1"), turn("tool", "2")], "tools": [tool("f"), tool("g", strict=True)], "add_generation_prompt": True},
    {"messages": [turn("user", "a"), turn("user", "b")]},
]


def render(source, chat):
    """transformers' text, None and the error where the template raises one, and what {% generation %} encloses."""
    variables = {"tools": None, "add_generation_prompt": False} | chat
    try:
        if "{% generation %}" in source:
            (text,), (spans,) = render_jinja_template([chat["messages"]], chat_template=source, tools=chat.get("tools"), return_assistant_tokens_mask=True,
                                                      add_generation_prompt=variables["add_generation_prompt"], **NAMES)
            return text, None, [text[a:b] for a, b in spans]
        template = _compile_jinja_template(source)
        template.environment.globals.pop("strftime_now", None)  # lpipe gives templates no clock
        template.globals.pop("strftime_now", None)
        return template.render(**variables, documents=None, **NAMES), None, None
    except Exception as e:
        return None, str(e), None


def main():
    if sys.argv[1:2] == ["check"]:
        sys.exit(check([Path(p) for p in sys.argv[2:]]) > 0)
    with open(TESTDATA / "templates" / "chats.jsonl", "w", encoding="utf-8") as out:
        for name, source in TEMPLATES.items():
            for chat in CHATS:
                text, error, trained = render(source, chat)
                row = {"template": name, "source": source, "names": NAMES} | chat | ({"text": text} if error is None else {"error": error})
                out.write(json.dumps(row | ({"trained": trained} if trained else {}), ensure_ascii=False, separators=(",", ":")) + "\n")


def check(folders):
    """Prints what differs; returns how many renderings did."""
    import transformers
    sources = TEMPLATES | {f.name: f.read_text(encoding="utf-8") for d in folders for f in sorted(d.glob("*.jinja"))}
    done = wrong = maskless = 0
    for name, source in sources.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "tokenizer.json").write_bytes((TESTDATA / "small" / "tokenizer.json").read_bytes())
            (folder / "tokenizer_config.json").write_text(json.dumps(NAMES), encoding="utf-8")
            (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
            for chat in CHATS:
                want, error, _ = render(source, chat)
                got = subprocess.run([ROOT / "bin" / "lpipe", "tokenize", "--tokenizer", folder], input=json.dumps(chat) + "\n", capture_output=True, text=True)
                text = json.loads(got.stdout)["text"] if got.returncode == 0 else None
                done += 1
                if text is None and "it cannot be said which tokens are the answer" in got.stderr:
                    maskless += 1  # refused: what comes before an answer depends on what follows it
                elif text != want:
                    wrong += 1
                    print(f"{name}: transformers {error or want!r}\n  lpipe {text or got.stderr!r}")
    print(f"transformers {transformers.__version__}: {len(sources)} chat templates, {done} renderings, {wrong} differ, {maskless} refused for want of a mask")
    return wrong


if __name__ == "__main__":
    main()
