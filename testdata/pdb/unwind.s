# Functions with every unwind code of x64 (Microsoft's public documentation "x64
# exception handling"). They are made to be unwound, not to be called: those that
# move the stack by a megabyte are behind a jump.

	.text
	.globl	AllUnwindCodes
	.def	AllUnwindCodes
	.scl	2
	.type	32
	.endef
	.seh_proc AllUnwindCodes
AllUnwindCodes:                         # UWOP_PUSH_NONVOL, UWOP_ALLOC_SMALL
	pushq	%rbx
	.seh_pushreg %rbx
	pushq	%r15
	.seh_pushreg %r15
	subq	$40, %rsp
	.seh_stackalloc 40
	.seh_endprologue
	movq	%rcx, %rbx
	testq	%rbx, %rbx
	jne	1f
	callq	SaveRegisters
	callq	FramePointer
	callq	LargeStack
	callq	FarSaves
	callq	Chained
	callq	Handled
	callq	MachineFrame
	callq	MachineFrameCode
	callq	Epilogue
1:	xorl	%eax, %eax
	addq	$40, %rsp
	popq	%r15
	popq	%rbx
	retq
	.seh_endproc

	.globl	SaveRegisters
	.seh_proc SaveRegisters
SaveRegisters:                          # UWOP_SAVE_NONVOL, UWOP_SAVE_XMM128
	subq	$120, %rsp
	.seh_stackalloc 120
	movq	%rsi, 64(%rsp)
	.seh_savereg %rsi, 64
	movq	%r12, 72(%rsp)
	.seh_savereg %r12, 72
	movaps	%xmm6, 32(%rsp)
	.seh_savexmm %xmm6, 32
	movaps	%xmm15, 48(%rsp)
	.seh_savexmm %xmm15, 48
	.seh_endprologue
	nop
	movaps	32(%rsp), %xmm6
	movaps	48(%rsp), %xmm15
	movq	64(%rsp), %rsi
	movq	72(%rsp), %r12
	addq	$120, %rsp
	retq
	.seh_endproc

	.globl	FramePointer
	.seh_proc FramePointer
FramePointer:                           # UWOP_SET_FPREG
	pushq	%rbp
	.seh_pushreg %rbp
	subq	$96, %rsp
	.seh_stackalloc 96
	leaq	32(%rsp), %rbp
	.seh_setframe %rbp, 32
	.seh_endprologue
	subq	$64, %rsp                   # as alloca does
	nop
	leaq	64(%rbp), %rsp
	popq	%rbp
	retq
	.seh_endproc

	.globl	LargeStack
	.seh_proc LargeStack
LargeStack:                             # UWOP_ALLOC_LARGE, 16 bits
	pushq	%rdi
	.seh_pushreg %rdi
	subq	$4096, %rsp
	.seh_stackalloc 4096
	.seh_endprologue
	nop
	addq	$4096, %rsp
	popq	%rdi
	retq
	.seh_endproc

	.globl	FarSaves
	.seh_proc FarSaves
FarSaves:                               # UWOP_ALLOC_LARGE, 32 bits; the far saves
	subq	$0x180008, %rsp
	.seh_stackalloc 0x180008
	movq	%rbx, 0x100000(%rsp)
	.seh_savereg %rbx, 0x100000
	movaps	%xmm7, 0x120000(%rsp)
	.seh_savexmm %xmm7, 0x120000
	.seh_endprologue
	nop
	movaps	0x120000(%rsp), %xmm7
	movq	0x100000(%rsp), %rbx
	addq	$0x180008, %rsp
	retq
	.seh_endproc

	.globl	Chained
	.seh_proc Chained
Chained:                                # UNW_FLAG_CHAININFO
	subq	$56, %rsp
	.seh_stackalloc 56
	.seh_endprologue
	testl	%eax, %eax
	je	1f
	.seh_startchained
	movq	%rbx, 48(%rsp)
	.seh_savereg %rbx, 48
	.seh_endprologue
	movl	%eax, %ebx
	movq	48(%rsp), %rbx
	.seh_endchained
1:	addq	$56, %rsp
	retq
	.seh_endproc

	.globl	Handled
	.seh_proc Handled
	.seh_handler Handler, @except, @unwind
Handled:                                # UNW_FLAG_EHANDLER and UNW_FLAG_UHANDLER
	subq	$40, %rsp
	.seh_stackalloc 40
	.seh_endprologue
	nop
	addq	$40, %rsp
	retq
	.seh_handlerdata
	.long	0x12345678
	.text
	.seh_endproc

	.globl	Handler
Handler:                                # a leaf: no unwind data
	movl	$1, %eax
	retq

	.globl	MachineFrame
	.seh_proc MachineFrame
MachineFrame:                           # UWOP_PUSH_MACHFRAME, without error code
	.seh_pushframe
	subq	$24, %rsp
	.seh_stackalloc 24
	.seh_endprologue
	nop
	addq	$24, %rsp
	iretq
	.seh_endproc

	.globl	MachineFrameCode
	.seh_proc MachineFrameCode
MachineFrameCode:                       # UWOP_PUSH_MACHFRAME, with error code
	.seh_pushframe @code
	pushq	%rbp
	.seh_pushreg %rbp
	subq	$16, %rsp
	.seh_stackalloc 16
	.seh_endprologue
	nop
	addq	$16, %rsp
	popq	%rbp
	addq	$8, %rsp
	iretq
	.seh_endproc

	.globl	Epilogue
Epilogue:                               # version 2: UWOP_EPILOG, by hand
	pushq	%rbx
	subq	$32, %rsp
.Lprologue:
	nop
.Lepilogue:
	addq	$32, %rsp
	popq	%rbx
	retq
.Lend:
	.section .xdata,"dr"
	.p2align 2
.Lunwind:
	.byte	2                           # version 2, no flags
	.byte	.Lprologue-Epilogue
	.byte	4                           # codes
	.byte	0                           # no frame register
	.byte	.Lend-.Lepilogue, 0x16      # UWOP_EPILOG: bytes of an epilogue; one at the end
	.byte	0, 0x06                     # and no other
	.byte	.Lprologue-Epilogue, 0x32   # UWOP_ALLOC_SMALL 32
	.byte	1, 0x30                     # UWOP_PUSH_NONVOL rbx
	.section .pdata,"dr"
	.long	Epilogue@IMGREL
	.long	.Lend@IMGREL
	.long	.Lunwind@IMGREL
