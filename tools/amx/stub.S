# A machine that only runs the blocks of engine/cpu/amx_amd64.s: 64 bits, tile registers on, the records of TestBlockImage one after the
# other. Port 0xe9 gets S, for each result P or F, E; then the emulator ends.
.code16
.org 0
start: cli
 xor %ax,%ax; mov %ax,%ds; mov %ax,%es; mov %ax,%ss; mov $0x7000,%sp
 ljmp $0,$(0x7c00+s2-start)
s2: mov $(0x7c00+dap-start),%si; mov $0x42,%ah; mov $0x80,%dl; int $0x13
 in $0x92,%al; or $2,%al; out %al,$0x92
 # page tables at 0x1000: the first GiB where it is, in pages of 2 MiB
 mov $0x1000,%di; mov $0x1000,%cx; xor %eax,%eax; rep stosl
 movl $0x2003,0x1000; movl $0x3003,0x2000
 mov $0x3000,%di; mov $0x83,%eax; mov $512,%cx
1: mov %eax,(%di); add $0x200000,%eax; add $8,%di; loop 1b
 mov $0x1000,%eax; mov %eax,%cr3
 mov %cr4,%eax; or $0x40620,%eax; mov %eax,%cr4
 mov $0xc0000080,%ecx; rdmsr; or $0x100,%eax; wrmsr
 lgdt 0x7c00+gdtr-start
 mov %cr0,%eax; and $0xfffffff3,%eax; or $0x80000003,%eax; mov %eax,%cr0
 ljmp $8,$(0x7c00+s3-start)
.align 8
gdt: .quad 0, 0x00209a0000000000, 0x0000920000000000
gdtr: .word 23; .long 0x7c00+gdt-start
dap: .byte 16,0; .word 119; .word 0x0000,0x07e0; .quad 1
.org 510
.byte 0x55,0xaa
.code64
s3: mov $16,%ax; mov %ax,%ds; mov %ax,%es; mov %ax,%ss
 mov $0x7000,%rsp
 xor %ecx,%ecx; xor %edx,%edx; mov $0x600e7,%eax; xsetbv
 mov $'S',%al; out %al,$0xe9
 mov $0x8000,%ebx      # records
2: mov (%rbx),%rax; test %rax,%rax; jz 9f
 push %rbx; push 8(%rbx); call *%rax; add $8,%rsp; pop %rbx
 mov 32(%rbx),%rcx; test %rcx,%rcx; jz 3f
 mov 16(%rbx),%rsi; mov 24(%rbx),%rdi; repe cmpsb
 mov $'P',%al; je 4f; mov $'F',%al
4: out %al,$0xe9
3: add $40,%rbx; jmp 2b
9: mov $'E',%al; out %al,$0xe9
 mov $'\n',%al; out %al,$0xe9
 mov $0x8900,%dx; 
 mov $'S',%al; out %al,%dx; mov $'h',%al; out %al,%dx; mov $'u',%al; out %al,%dx; mov $'t',%al; out %al,%dx
 mov $'d',%al; out %al,%dx; mov $'o',%al; out %al,%dx; mov $'w',%al; out %al,%dx; mov $'n',%al; out %al,%dx
5: hlt; jmp 5b
.org 0x400
